"""The step that watches a release with the public on it, while the old one still runs."""

from __future__ import annotations

import time

from slipway_release import history, journal, probe, processes, traffic, units
from slipway_release.errors import FailedError
from slipway_release.traffic import Traffic
from slipway_release.work import Work

# Nginx counts the questions of this host like those of any client.
_POLL_SECONDS = 0.1
_COUNT_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
# What was good here before needs no long proof, and whoever returns to it is in a hurry.
_RETURN_SECONDS = 1.0
# The old release is counted for at least this time, so that a quiet site can be compared too.
_BEFORE_SECONDS = 30.0
_OK = 200


class Comparison:
    """How the requests go since the switch, beside how they went before it.

    The service's own records name their release. Those of Nginx are there for every service.
    """

    def __init__(self, work: Work, switched: float) -> None:
        self._work = work
        self._until = switched
        # Nginx does not know releases: what an attempt just before this one has failed is not what
        # the old release usually does, and would excuse the new one.
        earlier = [entry.started + entry.seconds for entry in history.read(work.settings)]
        begin = max(switched - max(_BEFORE_SECONDS, work.settings.watch_seconds), *earlier[-1:], 0)
        self._before = self._count(work.operation.previous, begin, switched)
        self._after = {name: Traffic() for name in self._before}

    def _count(self, version: str | None, since: float, until: float) -> dict[str, Traffic]:
        settings = self._work.settings
        own = traffic.of_service(settings, version, since, until) if version else Traffic()
        return {"service": own, "Nginx": traffic.of_nginx(settings, since, until)}

    def go_on(self) -> str | None:
        """Count what was recorded since the last time.

        Returns:
            Why the new release is worse than the old one, in a sentence; None when it is not.
        """
        now = time.time()
        for name, seen in self._count(self._work.version, self._until, now).items():
            self._after[name] += seen
        self._until = now
        for name, after in self._after.items():
            # A service that records its failures alone says nothing about their share.
            seen = self._before[name] + after
            if name == "service" and seen.errors == seen.requests:
                continue
            if self._is_worse(self._before[name], after):
                return (
                    f"{self._work.version} failed {after} after the switch, the release before it "
                    f"{self._before[name]}, says the journal of {name}."
                )
        return None

    def _is_worse(self, before: Traffic, after: Traffic) -> bool:
        settings = self._work.settings
        if after.requests < settings.watch_minimum_requests:
            return False
        usual = before.ratio if before.requests >= settings.watch_minimum_requests else 0.0
        return after.ratio > usual + settings.watch_error_ratio

    def __str__(self) -> str:
        least = self._work.settings.watch_minimum_requests
        for after in self._after.values():
            if after.requests >= least:
                return f"steady, {after} failed"
        return "steady, too few requests to compare"


def watch(work: Work) -> str:
    """Watch the release for a while, then accept it.

    Raises:
        FailedError: It restarted, ended, stopped answering, or failed more requests than the one
            before it.
    """
    seconds = work.settings.watch_seconds
    if work.operation.verb == "rollback":
        seconds = min(seconds, _RETURN_SECONDS)
    if not seconds:
        _require_life(work)
        work.accept()
        return "not watched"
    deadline = time.monotonic() + seconds
    comparison = Comparison(work, work.switched or time.time())
    count = time.monotonic() + _COUNT_SECONDS
    while True:
        _require_life(work)
        now = time.monotonic()
        if now >= min(count, deadline):
            count = now + _COUNT_SECONDS
            if reason := comparison.go_on():
                raise _failure(work, reason)
        if now > deadline:
            work.accept()
            return str(comparison)
        time.sleep(_POLL_SECONDS)


def _require_life(work: Work) -> None:
    status = units.status(units.service(work.settings.app, work.version))
    if status.crashed or status.active != "active":
        raise _failure(work, f"{work.version} did not stay up: {status}.")
    processes.require_life(work)
    answer = probe.from_outside(work.settings, _ANSWER_SECONDS)
    if answer.status != _OK:
        raise _failure(work, f"{work.settings.smoke_url} failed after the switch: {answer}.")


def _failure(work: Work, message: str) -> FailedError:
    service = units.service(work.settings.app, work.version)
    return FailedError(message, journal.last_lines(service, work.since))
