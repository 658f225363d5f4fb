"""Processes that outlive the command that started them, found again by number and start time."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

_PATIENCE = 10.0


def _started(number: int) -> str | None:
    """Start time of a process in clock ticks (proc(5), field 22); None when it is gone."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def running(record: Path) -> int | None:
    """Return the number of a recorded process, None when it has ended.

    A number may be used again by a stranger: the start time tells the difference.
    """
    try:
        number, started = record.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(number) if _started(int(number)) == started else None


def start(
    record: Path, command: Sequence[str], log: Path, environment: dict[str, str] | None = None
) -> int:
    """Start a process in a session of its own, its output in a log, and record it."""
    record.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    remember(record, process.pid)
    return process.pid


def remember(record: Path, number: int) -> None:
    """Record a process by its number and start time."""
    record.write_text(f"{number} {_started(number) or 0}\n")


def stop(record: Path, first: signal.Signals = signal.SIGTERM, patience: float = _PATIENCE) -> None:
    """End a recorded process: ask, wait, then force."""
    number = running(record)
    for request in (first, signal.SIGKILL):
        if number is None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, request)
        deadline = time.monotonic() + patience
        while running(record) is not None and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(number, os.WNOHANG)
            time.sleep(0.02)
        number = running(record)
    record.unlink(missing_ok=True)


def first_of_container(mark: str) -> list[int]:
    """Return the processes that are number 1 of a container begun with a mark in its environment.

    They outlive the program that began them, and everything in the container ends with them
    (pid_namespaces(7)).
    """
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    status = (folder / "status").read_text().splitlines()
                    numbers = next(line for line in status if line.startswith("NSpid:")).split()
                    if numbers[-1] == "1":
                        found.append(int(folder.name))
    return found
