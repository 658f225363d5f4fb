# Ansible runs this file alone; it belongs to no package.
# ruff: noqa: INP001
"""Ansible module: restart the running release with its new settings, or put the old ones back."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: restart_release
short_description: Restart what runs of a service with its new settings, if it can run with them
description:
  - Asks the preflight of the live release about the settings first. When it refuses them, or when
    what was restarted does not stay up, the files of before are put back, and the task fails with
    what the service said; what was running goes on, or is started again, with them.
  - A preflight that refuses the settings of before with the same words is not about the settings -
    the database is away, or newer than the release after a rollback - and keeps nothing back.
  - systemd holds the socket of the release meanwhile, so that no connection is refused. What does
    not run is not started.
options:
  app:
    description: Name of the service and of its units.
    type: str
    required: true
  current:
    description: Link to the folder of the live release, which has the name of its version.
    type: path
    required: true
  preflight:
    description: Whether the service has a unit C(<app>-preflight@).
    type: bool
    required: true
  processes:
    description: Patterns of the further units to restart.
    type: list
    elements: str
    default: []
  undo:
    description: What M(config_files) has kept of the files of before; it is deleted.
    type: path
    required: true
"""

RETURN = r"""
restarted:
  description: Units that were restarted.
  returned: success
  type: list
  elements: str
unproved:
  description: Why the preflight refused the settings of before as well; empty when it did not.
  returned: success
  type: str
"""

# A process that cannot run ends within this time.
_WATCH_SECONDS = 3.0
_POLL_SECONDS = 0.25
_MOST_LINES = 20
# What each path holds: content, owner and mode, or nothing.
State = dict[str, Any]


class RefusedError(Exception):
    """The service does not run with the new settings.

    Attributes:
        lines: What it said, oldest first.
        down: Units that do not run with the settings of before either.
    """

    def __init__(self, lines: list[str]) -> None:
        super().__init__(lines[-1])
        self.lines = lines
        self.down: list[str] = []


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


def systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Ask systemd; whoever calls looks at the exit status."""
    command = ["systemctl", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def running(patterns: list[str]) -> list[str]:
    """Return the units that run, or are about to."""
    states = "--state=active,activating,reloading"
    answer = systemctl("list-units", "--plain", "--no-legend", states, *patterns)
    return [line.split()[0] for line in answer.stdout.splitlines() if line.strip()]


def said(unit: str, since: float) -> list[str]:
    """Return the last lines of a unit since a Unix time: its own, or what systemd says of it."""
    # Its SyslogIdentifier=; of harbour.worker@v1.0.0.service it is harbour-worker.
    name = unit.partition("@")[0].replace(".", "-")
    subprocess.run(["journalctl", "--sync"], check=False, capture_output=True)
    command = ["journalctl", "--quiet", "--output=cat", f"--unit={unit}", f"--since=@{since:.6f}"]
    for further in ([f"--identifier={name}"], []):
        answer = subprocess.run(
            [*command, *further], check=False, capture_output=True, text=True, errors="replace"
        )
        lines = [line for line in answer.stdout.splitlines() if line.strip()]
        if lines:
            return lines[-_MOST_LINES:]
    return [f"{unit} did not start, and said nothing."]


def ask(unit: str) -> None:
    """Run the preflight.

    Raises:
        RefusedError: It failed.
    """
    since = time.time()
    if systemctl("start", unit).returncode:
        lines = said(unit, since)
        # A unit that stays failed would raise an alarm.
        systemctl("reset-failed", unit)
        raise RefusedError(lines)


def prove(unit: str, undo: State) -> str:
    """Ask the preflight about the new settings.

    Returns:
        Why it refuses those of before as well; '' when it refuses none.

    Raises:
        RefusedError: It refuses the new ones alone; those of before are back.
    """
    try:
        ask(unit)
    except RefusedError as refused:
        new = exchange(undo)
        try:
            ask(unit)
        except RefusedError as before:
            if not undo or before.lines[-1] != refused.lines[-1]:
                raise refused from None
        else:
            raise
        exchange(new)
        return str(refused)
    return ""


def restart(units: list[str], judged: list[str]) -> None:
    """Restart units, and watch some of them for seconds where they may end without a word.

    Raises:
        RefusedError: One of those did not start, or did not stay up.
    """
    since = time.time()
    # Also for how often systemd had to start them by itself.
    systemctl("reset-failed", *units)
    _in_turn("try-restart", units)
    # The web part has said that it can serve; a worker has only been started.
    deadline = time.monotonic() + (_WATCH_SECONDS if any(map(_is_process, judged)) else 0)
    while True:
        for unit in judged:
            if not _is_up(unit):
                raise RefusedError(said(unit, since))
        if time.monotonic() >= deadline:
            return
        time.sleep(_POLL_SECONDS)


def _in_turn(verb: str, units: list[str]) -> None:
    """Restart the web part first: requests wait for it, and its start is not to be slowed down."""
    for process in (False, True):
        if some := [unit for unit in units if _is_process(unit) is process]:
            systemctl(verb, *some)


def _is_process(unit: str) -> bool:
    """Whether it is a further process of the service, such as harbour.worker@v1.0.0.service."""
    return "." in unit.partition("@")[0]


def _show(unit: str) -> dict[str, str]:
    names = "ActiveState,ActiveEnterTimestampMonotonic,NRestarts"
    answer = systemctl("show", f"--property={names}", unit)
    return dict(line.partition("=")[::2] for line in answer.stdout.splitlines())


def _has_run(unit: str) -> bool:
    """Whether the unit was well: what crashed before is not the fault of the new settings."""
    values = _show(unit)
    since = int(values.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    return values.get("ActiveState") == "active" and time.monotonic() - since > _WATCH_SECONDS


def _is_up(unit: str) -> bool:
    values = _show(unit)
    return values.get("ActiveState") == "active" and (values.get("NRestarts") or "0") == "0"


def apply(module: AnsibleModule, undo: State) -> dict[str, Any]:
    """Restart what runs with the new settings.

    Raises:
        RefusedError: It does not run with them; those of before are back.
    """
    app, current = module.params["app"], Path(module.params["current"])
    systemctl("daemon-reload")
    unproved = ""
    if module.params["preflight"] and current.is_symlink():
        unproved = prove(f"{app}-preflight@{current.readlink().name}.service", undo)
    units = running([f"{app}@*.service", *module.params["processes"]])
    judged = [unit for unit in units if _has_run(unit)]
    if units:
        try:
            restart(units, judged)
        except RefusedError as refused:
            exchange(undo)
            systemctl("reset-failed", *units)
            _in_turn("restart", units)
            refused.down = [unit for unit in judged if not _is_up(unit)]
            raise
    return {"changed": bool(units), "restarted": units, "unproved": unproved}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        {
            "app": {"type": "str", "required": True},
            "current": {"type": "path", "required": True},
            "preflight": {"type": "bool", "required": True},
            "processes": {"type": "list", "elements": "str", "default": []},
            "undo": {"type": "path", "required": True},
        }
    )
    path = Path(module.params["undo"])
    undo: State = json.loads(path.read_text()) if path.exists() else {}
    app = module.params["app"]
    try:
        result = apply(module, undo)
    except RefusedError as error:
        path.unlink(missing_ok=True)
        lines = "".join(f"\n    | {line}" for line in error.lines)
        outcome = "and it goes on with them"
        if error.down:
            outcome = f"but {' and '.join(error.down)} did not come up again (`systemctl status`)"
        module.fail_json(
            msg=f"{app} does not run with its new settings: {str(error).rstrip('.')}. Those of "
            f"before are back, {outcome}. Correct the new ones in the inventory (app_environment, "
            f"app_credentials, or what these are made of) and run the playbook again.{lines}"
        )
    path.unlink(missing_ok=True)
    if result["unproved"]:
        module.warn(
            f"The preflight of {app} fails with the new settings as with those of before, so that "
            f"it was restarted with the new ones: {result['unproved']}"
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
