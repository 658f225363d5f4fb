"""What a release runs beside the web part: its workers, and the jobs that its timers start.

The role `app` writes a unit for each, `<app>.<name>@<version>`. They follow the web part: the
workers of two releases overlap for as long as an old one takes for the job in hand, and a job that
a timer has started is left to its own end.
"""

from __future__ import annotations

import time

from slipway_release import journal, units
from slipway_release.errors import FailedError
from slipway_release.settings import Settings
from slipway_release.work import Work


def workers(settings: Settings, version: str) -> list[str]:
    """Names of the units that work all the time."""
    return [f"{settings.app}.{name}@{version}.service" for name in settings.workers]


def timers(settings: Settings, version: str) -> list[str]:
    """Names of the units that start jobs."""
    return [f"{settings.app}.{name}@{version}.timer" for name in settings.timers]


def jobs(settings: Settings, version: str) -> list[str]:
    """Names of the units that timers start."""
    return [f"{settings.app}.{name}@{version}.service" for name in settings.timers]


def hand_over(work: Work) -> str:
    """Start the processes of the new release, and let those of the old one come to their end.

    Raises:
        FailedError: One of them could not be started; with its last log lines.
    """
    settings, version, previous = work.settings, work.version, work.operation.previous
    working, ticking = workers(settings, version), timers(settings, version)
    if not working + ticking:
        return "none"
    units.forget_failures(*working, *ticking, *jobs(settings, version))
    for unit in working:
        _start(unit)
    if previous and previous != version:
        # A worker ends the job in hand; the drain waits for it. Two timers at once would start a
        # job twice, so the old one goes first.
        units.leave(*workers(settings, previous))
        units.stop(*timers(settings, previous))
    units.start(*ticking)
    return ", ".join((*settings.workers, *settings.timers))


def _start(unit: str) -> None:
    begun = time.time()
    try:
        units.start(unit)
    except FailedError as error:
        raise FailedError(str(error), journal.last_lines(unit, begun)) from error


def begin(settings: Settings, version: str) -> None:
    """Start the processes of a release without waiting for them."""
    wanted = [*workers(settings, version), *timers(settings, version)]
    units.forget_failures(*wanted)
    units.begin(*wanted)


def stop_strangers(settings: Settings) -> None:
    """Stop the processes that the settings do not know any more."""
    known = {*settings.workers, *settings.timers}
    strangers = [unit for name, unit in units.processes(settings.app) if name not in known]
    units.stop(*strangers)
    units.forget_failures(*strangers)


def require_life(work: Work) -> None:
    """Fail when a worker of the release does not stay up.

    Raises:
        FailedError: One restarted or ended; with its last log lines.
    """
    for unit in workers(work.settings, work.version):
        status = units.status(unit)
        if status.crashed or status.active != "active":
            raise FailedError(
                f"{unit} did not stay up: {status}.", journal.last_lines(unit, work.since)
            )
