# Ansible runs this file with its parts in module_utils; it belongs to no package.
# ruff: noqa: INP001
"""Ansible module: restart the running release with its new settings, or put the old ones back."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.slipway_kept import State, exchange
from ansible.module_utils.slipway_lock import LockedError, ReleaseLock
from ansible.module_utils.slipway_units import (
    RefusedError,
    has_run,
    restart,
    restart_again,
    running,
    said,
    systemctl,
)

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
  - Nobody releases meanwhile, because the release would take the restart for a crash. A release
    that is under way is waited for; when that takes too long the task fails, and the next run does
    what this one was to do.
options:
  app:
    description: Name of the service and of its units.
    type: str
    required: true
  current:
    description: Link to the folder of the live release, which has the name of its version.
    type: path
    required: true
  lock:
    description: File that whoever releases holds locked; it is made where there is none.
    type: path
    required: true
  wait:
    description: Seconds to wait for whoever holds it.
    type: int
    default: 120
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
told:
  description: What the preflight warned of although it took the new settings.
  returned: success
  type: list
  elements: str
unproved:
  description: Why the preflight refused the settings of before as well; empty when it did not.
  returned: success
  type: str
"""


def ask(unit: str) -> list[str]:
    """Run the preflight; return what it warns of although it passes.

    Raises:
        RefusedError: It failed.
    """
    since = time.time()
    if systemctl("start", unit).returncode:
        lines = said(unit, since)
        # A unit that stays failed would raise an alarm.
        systemctl("reset-failed", unit)
        raise RefusedError(lines)
    return [line for line in said(unit, since) if line.startswith("Warning: ")]


def prove(unit: str, undo: State) -> tuple[str, list[str]]:
    """Ask the preflight about the new settings.

    Returns:
        Why it refuses those of before as well, '' when it refuses none; and what it warns of.

    Raises:
        RefusedError: It refuses the new ones alone; those of before are back.
    """
    try:
        return "", ask(unit)
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
        return str(refused), []


def apply(module: AnsibleModule, undo: State) -> dict[str, Any]:
    """Restart what runs with the new settings.

    Raises:
        RefusedError: It does not run with them; those of before are back.
    """
    app, current = module.params["app"], Path(module.params["current"])
    systemctl("daemon-reload")
    unproved, told = "", []
    if module.params["preflight"] and current.is_symlink():
        unproved, told = prove(f"{app}-preflight@{current.readlink().name}.service", undo)
    units = running([f"{app}@*.service", *module.params["processes"]])
    judged = [unit for unit in units if has_run(unit)]
    if units:
        try:
            restart(units, judged)
        except RefusedError as refused:
            exchange(undo)
            refused.down = restart_again(units, judged)
            raise
    return {"changed": bool(units), "restarted": units, "told": told, "unproved": unproved}


def work(module: AnsibleModule) -> None:
    """Do it, and say how it went; whoever calls holds the lock."""
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
    for line in result["told"]:
        module.warn(f"{app} runs with its new settings, of which its preflight says: {line}")
    if result["unproved"]:
        module.warn(
            f"The preflight of {app} fails with the new settings as with those of before, so that "
            f"it was restarted with the new ones: {result['unproved']}"
        )
    module.exit_json(**result)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        {
            "app": {"type": "str", "required": True},
            "current": {"type": "path", "required": True},
            "lock": {"type": "path", "required": True},
            "wait": {"type": "int", "default": 120},
            "preflight": {"type": "bool", "required": True},
            "processes": {"type": "list", "elements": "str", "default": []},
            "undo": {"type": "path", "required": True},
        }
    )
    app, current = module.params["app"], Path(module.params["current"])
    version = current.readlink().name if current.is_symlink() else "(no release)"
    lock = ReleaseLock(Path(module.params["lock"]), app, version)
    try:
        lock.take(module.params["wait"])
    except LockedError as error:
        module.fail_json(
            msg=f"{app} was not restarted with its new settings: {error} They are written and not "
            f"proved yet. Wait for the end (`journalctl -fu slipway-{app}-release`) and run the "
            "playbook again."
        )
    try:
        work(module)
    finally:
        lock.free()


if __name__ == "__main__":
    main()
