"""The mail of a lab: what its hosts send is kept as files, and nothing is delivered."""

import socket
import sys
import time
from pathlib import Path

from deploy.lab import processes
from deploy.lab.errors import LabError
from deploy.lab.settings import Lab

_PATIENCE = 15.0


def up(lab: Lab) -> None:
    """Start the server that takes it, and wait until it answers.

    Raises:
        LabError: It did not answer in time.
    """
    lab.mail.mkdir(exist_ok=True)
    record = lab.mail / "server.pid"
    if processes.running(record) is not None:
        return
    command = [sys.executable, "-m", "deploy.lab.mail_server", str(lab.state)]
    # The package is found from any folder that the command is called in.
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    processes.start(record, command, lab.mail / "server.log", root)
    deadline = time.monotonic() + _PATIENCE
    while (reason := _trouble(lab)) is not None:
        if processes.running(record) is None or time.monotonic() > deadline:
            raise LabError(
                f"The mail server of the lab did not start on {lab.gateway}:{lab.mail_port} "
                f"({reason}): see {lab.mail / 'server.log'}."
            )
        time.sleep(0.05)


def down(lab: Lab) -> None:
    """End it."""
    processes.stop(lab.mail / "server.pid")


def _trouble(lab: Lab) -> OSError | None:
    try:
        socket.create_connection((lab.gateway, lab.mail_port), timeout=2).close()
    except OSError as error:
        return error
    return None
