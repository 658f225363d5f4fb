"""A control group of its own for each host.

Hosts that shared one would each run a systemd over the same groups: units of the same name in two
hosts would find each other's processes in them, as numbers that they cannot know.
"""

import contextlib
import os
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")


def _roots() -> list[Path]:
    """Hierarchies that nspawn gives to the systemd of a host (cgroups(7))."""
    if (_MOUNT / "cgroup.controllers").exists():
        return [_MOUNT]
    return [root for root in (_MOUNT / "systemd", _MOUNT / "unified") if root.is_dir()]


def enter(name: str) -> None:
    """Move this process, and so all that it will start, into a group of this name."""
    for root in _roots():
        group = root / name
        group.mkdir(exist_ok=True)
        (group / "cgroup.procs").write_text(f"{os.getpid()}\n")


def remove(name: str) -> None:
    """Remove the group, which has no processes any more."""
    for root in _roots():
        groups = sorted((root / name).glob("**/"), key=lambda group: len(group.parts))
        for group in reversed(groups):
            with contextlib.suppress(OSError):
                group.rmdir()
