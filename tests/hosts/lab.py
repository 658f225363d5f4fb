"""The lab of the scenario, by the command that a developer uses."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.hosts.repository import ROOT


def lab(verb: str, *arguments: str) -> str:
    """Runs a verb of the scenario's lab; answers what it printed."""
    command = [sys.executable, "-m", "deploy.lab", "--state", os.environ["SLIPWAY_LAB_STATE"]]
    result = subprocess.run(
        [*command, verb, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def status() -> dict[str, Any]:
    """What the scenario's lab is made of."""
    described: dict[str, Any] = json.loads(lab("status", "--json"))
    return described
