# Ansible sends this along with the module; it belongs to no package.
# ruff: noqa: INP001
"""Files as they were before a change, which can come back."""

from __future__ import annotations

import base64
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.slipway_units import systemctl

# What each path holds: content, owner and mode, or nothing.
State = dict[str, Any]


def exchange(wanted: State) -> State:
    """Bring files into a state, let systemd know, and return the state that they were in."""
    found = {path: _state(Path(path)) for path in wanted}
    for path, entry in wanted.items():
        if entry is None:
            Path(path).unlink(missing_ok=True)
        else:
            _write(Path(path), entry)
    systemctl("daemon-reload")
    return found


def _state(path: Path) -> dict[str, Any] | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    found = path.stat()
    encoded = base64.b64encode(content).decode()
    mode = stat.S_IMODE(found.st_mode)
    return {"content": encoded, "uid": found.st_uid, "gid": found.st_gid, "mode": mode}


def _write(path: Path, entry: dict[str, Any]) -> None:
    handle, name = tempfile.mkstemp(prefix=".slipway-", dir=path.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(base64.b64decode(entry["content"]))
        stream.flush()
        os.fsync(stream.fileno())
    os.chown(name, entry["uid"], entry["gid"])
    Path(name).chmod(entry["mode"])
    Path(name).replace(path)
