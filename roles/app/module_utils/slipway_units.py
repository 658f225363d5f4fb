# Ansible sends this along with the module; it belongs to no package.
# ruff: noqa: INP001
"""The units of a service: what runs, what it says, and a restart that is watched."""

from __future__ import annotations

import subprocess
import time

# A process that cannot run ends within this time.
_WATCH_SECONDS = 3.0
_POLL_SECONDS = 0.25
_MOST_LINES = 20


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


def restart_again(units: list[str], judged: list[str]) -> list[str]:
    """Restart units with the settings of before; return which of the judged do not run."""
    systemctl("reset-failed", *units)
    _in_turn("restart", units)
    return [unit for unit in judged if not _is_up(unit)]


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


def has_run(unit: str) -> bool:
    """Whether the unit was well: what crashed before is not the fault of the new settings."""
    values = _show(unit)
    since = int(values.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    return values.get("ActiveState") == "active" and time.monotonic() - since > _WATCH_SECONDS


def _is_up(unit: str) -> bool:
    values = _show(unit)
    return values.get("ActiveState") == "active" and (values.get("NRestarts") or "0") == "0"
