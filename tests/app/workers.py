"""Workers as processes of their own, and what they have written."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import counted
from tests.services import ROOT

# Of a busy machine, on which a worker takes long to start.
TIMEOUT = 90.0
ADDRESS = "anna@example.com"
OPTIONS = {"heartbeat": 0.3, "stalled_after": 4.0, "poll": 0.1, "grace": 10.0}


class Worker:
    """One worker, and what it has written."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, notes: Path) -> None:
        self.process = process
        self._log = log
        self._notes = notes

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [line for line in found if line["event"].startswith(event)]

    def about(self, job: str) -> list[dict[str, Any]]:
        return [line for line in self.lines("job.") if line["job"] == job]

    def text(self) -> str:
        return self._log.read_text()

    def notes(self) -> list[list[str]]:
        """Return what the jobs of all workers of a test have noted."""
        text = self._notes.read_text() if self._notes.exists() else ""
        return [line.split() for line in text.splitlines()]

    def kill(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)


StartWorker = Callable[..., Worker]
Enqueue = Callable[..., Any]


def start_worker_in(
    folder: Path,
    environment: dict[str, str],
    stack: contextlib.ExitStack,
    module: str = "tests.app.worker_for_tests",
    **changes: Any,
) -> Worker:
    """Start a worker; it ends with the stack.

    Small names among the changes are options of the worker, large ones variables of its
    environment.
    """
    options = {**OPTIONS, **{key: value for key, value in changes.items() if not key.isupper()}}
    log, notes = folder / f"log-{time.monotonic_ns()}", folder / "notes"
    variables = {
        "PATH": os.environ["PATH"],
        **counted(),
        "PYTHONDONTWRITEBYTECODE": "1",
        "APP_FILE_FOLDER": str(folder),
        "APP_LOG_OUTPUT": "json",
        "NOTES": str(notes),
        "OPTIONS": json.dumps(options),
        **environment,
        **{key: value for key, value in changes.items() if key.isupper()},
    }
    command = [sys.executable, "-W", "error", "-m", module]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, cwd=ROOT, env=variables)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return Worker(process, log, notes)


async def until(condition: Callable[[], object], worker: Worker) -> None:
    """Wait for something that a worker does."""
    deadline = time.monotonic() + TIMEOUT
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, worker.text()
        await asyncio.sleep(0.05)


def suspend(worker: Worker, sql: Callable[[str], str]) -> None:
    """Suspend a worker that holds no lock just now; the server of a host ends it after a minute."""
    held = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE '%in transaction%'"
    while True:
        worker.process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        if sql(held) == "0":
            return
        worker.process.send_signal(signal.SIGCONT)
