"""The units of a service, which the role `app` writes, one instance a release."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import time

from slipway_release import journal
from slipway_release.errors import FailedError

# Longer than any stop or migration that a unit's own limit allows; systemd decides, not this.
_PATIENCE_SECONDS = 7200


@dataclasses.dataclass(frozen=True)
class UnitStatus:
    """What systemd says of a unit (systemctl(1), `show`).

    Attributes:
        active: `ActiveState`.
        sub: `SubState`.
        result: `Result`: why it ended.
        restarts: `NRestarts`: how often systemd had to start it again by itself.
    """

    active: str
    sub: str
    result: str
    restarts: int

    @property
    def crashed(self) -> bool:
        """Whether the unit ended although nobody asked it to."""
        return self.active == "failed" or self.sub == "auto-restart" or self.restarts > 0

    def __str__(self) -> str:
        restarts = f", restarted {self.restarts} times" if self.restarts else ""
        return f"{self.active} ({self.sub}), result {self.result}{restarts}"


def service(app: str, version: str) -> str:
    """Name of the unit that serves a release."""
    return f"{app}@{version}.service"


def listener(app: str, version: str) -> str:
    """Name of the unit that holds the socket of a release."""
    return f"{app}@{version}.socket"


def status(unit: str) -> UnitStatus:
    """Ask systemd for the status of a unit; one that does not exist is inactive."""
    answer = _systemctl("show", "--property=ActiveState,SubState,Result,NRestarts", unit)
    values = dict(line.partition("=")[::2] for line in answer.splitlines())
    return UnitStatus(
        values.get("ActiveState", "inactive"),
        values.get("SubState", "dead"),
        values.get("Result", ""),
        int(values.get("NRestarts") or 0),
    )


def start(*names: str) -> None:
    """Start units and wait until they run, or have run if they end by themselves.

    Raises:
        FailedError: One of them did not start.
    """
    if names:
        _systemctl("start", *names)


def run(name: str, what: str) -> None:
    """Start a unit that does one thing, and wait until it has done it.

    Args:
        name: The unit.
        what: What it does, to begin a sentence with.

    Raises:
        FailedError: It failed; with its last log lines.
    """
    since = time.time()
    forget_failures(name)
    try:
        start(name)
    except FailedError as error:
        lines = journal.last_lines(name, since)
        raise FailedError(f"{what} failed ({status(name).result or error}).", lines) from error


def begin(*names: str) -> None:
    """Start units without waiting for them."""
    if names:
        _systemctl("start", "--no-block", *names)


def stop(*names: str) -> None:
    """Stop units in one transaction, so that a stopping service is not started by its socket."""
    if names:
        _systemctl("stop", *names)


def leave(*names: str) -> None:
    """Ask units to stop, without waiting until they have."""
    if names:
        _systemctl("stop", "--no-block", *names)


def reload(name: str) -> None:
    """Let a unit read its settings again, if it runs.

    Raises:
        FailedError: It did not.
    """
    _systemctl("try-reload-or-restart", name)


def forget_failures(*names: str) -> None:
    """Clear what earlier attempts left: a failed unit, a start limit, a number of restarts."""
    if names:
        subprocess.run(["systemctl", "reset-failed", *names], check=False, capture_output=True)


def serving(app: str) -> set[str]:
    """Return the versions of which the service or the socket is up, or about to be."""
    return {version for _, version in _instances(app, f"{app}@*.service", f"{app}@*.socket")}


def running(app: str) -> set[str]:
    """Return the versions of which anything runs: the service, a worker, a timer or its job."""
    others = {re.split("@", unit)[1].rpartition(".")[0] for _, unit in processes(app)}
    return serving(app) | others


def processes(app: str) -> set[tuple[str, str]]:
    """Return the workers, timers and jobs that run: the name of each, and of its unit."""
    found = _instances(app, f"{app}.*@*.service", f"{app}.*@*.timer")
    return {(unit.removeprefix(f"{app}.").partition("@")[0], unit) for unit, _ in found}


def _instances(app: str, *patterns: str) -> set[tuple[str, str]]:
    answer = _systemctl(
        "list-units",
        "--plain",
        "--no-legend",
        "--state=active,activating,reloading,deactivating",
        *patterns,
    )
    form = re.compile(rf"({re.escape(app)}(?:\.[a-z0-9-]+)?@(\S+)\.(?:service|socket|timer))")
    matches = (form.match(line.strip()) for line in answer.splitlines())
    return {(match[1], match[2]) for match in matches if match}


def _systemctl(*arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["systemctl", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"`{' '.join(error.cmd)}` did not end within two hours.") from error
    if answer.returncode:
        reason = answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"]
        raise FailedError(f"`systemctl {' '.join(arguments)}` failed: {reason[0]}")
    return answer.stdout
