"""What the hosts of the running lab say about their releases."""

import json
import subprocess
from pathlib import Path

from deploy.demo.errors import DemoError
from deploy.lab import settings
from deploy.lab.settings import Lab


def running_lab(state: Path) -> Lab:
    """Return the lab of a state folder.

    Raises:
        DemoError: There is none.
    """
    lab = settings.load(state)
    if lab is None:
        raise DemoError(f"There is no lab in {state}: `make demo` makes one.")
    return lab


def is_live(lab: Lab, version: str) -> bool:
    """Say whether each host of the service serves a version."""
    current = [
        answer for answer in (_current(lab, host) for host in lab.hosts) if answer is not None
    ]
    return bool(current) and all(answer == version for answer in current)


def _current(lab: Lab, host: settings.Host) -> str | None:
    """Return the live version of a host, "" for none; None when it does not serve at all."""
    answer = subprocess.run(
        [*lab.ssh(host), "sudo -n slipway status --json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if answer.returncode:
        return None
    return json.loads(answer.stdout)["current"] or ""
