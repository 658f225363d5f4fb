"""The steps in which a release proves itself: alone on its socket first, then behind Nginx."""

from __future__ import annotations

import time

from slipway_release import journal, probe, restore, schema, units
from slipway_release.errors import FailedError
from slipway_release.probe import Answer
from slipway_release.work import Work

_POLL_SECONDS = 0.05
# Nginx counts the questions of this host like those of any client.
_OUTSIDE_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 5.0
# A service that calls itself ready has this long to be right about it: a wrong answer that
# lasts longer is no hiccup.
_HICCUP_SECONDS = 1.0
_OK = 200
# What a line of the preflight begins with that is to be told although it passed.
_WARNING = "Warning: "


def preflight(work: Work) -> str:
    """Let the release check its settings, its imports and its database, before it serves.

    Raises:
        FailedError: It does not find what it needs.
    """
    if not work.settings.has_preflight:
        return "none"
    unit, since = f"{work.settings.app}-preflight@{work.version}.service", time.time()
    units.run(unit, f"The preflight of {work.version}")
    # What does not keep a release back, but ought to be known before its users find it.
    warnings = [line for line in journal.last_lines(unit, since) if line.startswith(_WARNING)]
    for line in warnings:
        work.progress.tell(f"  preflight: {line}", journal.WARNING)
    return "passed with warnings" if warnings else ""


def migrate(work: Work) -> str:
    """Move the schema to what the release expects; the old release can work with it too.

    Raises:
        FailedError: It failed, or waited too long for a lock.
    """
    settings, version = work.settings, work.version
    if not settings.has_migrations:
        return "none"
    try:
        units.run(f"{settings.app}-migrate@{version}.service", f"The migration of {version}")
    except FailedError as error:
        raise FailedError(f"{error}{restore.hint(work)}", error.lines) from error
    if work.manifest:
        schema.note_expanded(settings, work.manifest.revisions)
    return ""


def start(work: Work) -> str:
    """Start the release on its own socket and wait until every worker is ready.

    Raises:
        FailedError: It crashed, or was not ready in time; with its last log lines.
    """
    app, seconds = work.settings.app, work.settings.ready_seconds
    service, listener = units.service(app, work.version), units.listener(app, work.version)
    if work.version in units.serving(app):
        units.stop(service, listener)
    units.forget_failures(service, listener)
    work.since = time.time()
    deadline = time.monotonic() + seconds
    units.start(listener)
    units.begin(service)
    while (status := units.status(service)).active != "active":
        if status.crashed:
            raise _failure(work, f"{work.version} crashed at its start: {status}.")
        if time.monotonic() > deadline:
            raise _failure(work, f"{work.version} was not ready after {seconds:g} s: {status}.")
        time.sleep(_POLL_SECONDS)
    return ""


def ready(work: Work) -> str:
    """Wait until the release answers right on its own socket, before anyone is sent to it.

    Raises:
        FailedError: It answered wrong, or not in time; with its last log lines.
    """
    settings = work.settings
    _until_right(work, settings.health_path, min(_HICCUP_SECONDS, settings.ready_seconds))
    return str(_until_right(work, settings.ready_path, settings.ready_seconds).status)


def _until_right(work: Work, path: str, seconds: float) -> Answer:
    deadline = time.monotonic() + seconds
    while True:
        answer = probe.on_socket(work.settings, work.version, path, _ANSWER_SECONDS)
        if answer.status == _OK:
            if path == work.settings.health_path:
                _require_version(work, answer)
            return answer
        status = units.status(units.service(work.settings.app, work.version))
        if status.crashed:
            raise _failure(work, f"{work.version} crashed before it answered {path}: {status}.")
        if time.monotonic() > deadline:
            raise _failure(work, f"{work.version} did not answer {path} right: {answer}.")
        time.sleep(_POLL_SECONDS)


def _require_version(work: Work, answer: Answer) -> None:
    key = work.settings.version_key
    if key and answer.member(key) != work.version:
        said = answer.member(key)
        raise _failure(work, f"{work.version} says that it is {said} (member {key!r} of health).")


def warm_up(work: Work) -> str:
    """Let the release answer some requests of ours before the first of the public."""
    slowest = 0.0
    for _ in range(work.settings.warm_up_requests):
        begin = time.monotonic()
        answer = probe.on_socket(
            work.settings, work.version, work.settings.health_path, _ANSWER_SECONDS
        )
        slowest = max(slowest, time.monotonic() - begin)
        if answer.status != _OK:
            raise _failure(work, f"{work.version} failed while it was warmed up: {answer}.")
    return f"{work.settings.warm_up_requests} requests, slowest {slowest * 1000:.0f} ms"


def smoke(work: Work) -> str:
    """Ask from outside, through Nginx with TLS, until the new version shows.

    Nginx may use a connection to the old release for a moment, so an answer of the old one is
    waited out.

    Raises:
        FailedError: The new version did not show, or something else than 200 kept coming.
    """
    settings, key = work.settings, work.settings.version_key
    begin = right = time.monotonic()
    while True:
        answer = probe.from_outside(settings, _ANSWER_SECONDS)
        now = time.monotonic()
        if answer.status == _OK:
            right = now
            if not key or answer.member(key) == work.version:
                return f"{settings.smoke_url} answers"
        if now - right > _HICCUP_SECONDS or now - begin > settings.smoke_seconds:
            message = f"{settings.smoke_url} does not show {work.version}: {answer}."
            raise _failure(work, message)
        time.sleep(_OUTSIDE_POLL_SECONDS)


def _failure(work: Work, message: str) -> FailedError:
    service = units.service(work.settings.app, work.version)
    return FailedError(message, journal.last_lines(service, work.since))
