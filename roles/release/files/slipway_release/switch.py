"""The rename that decides what is live, and the way back."""

from __future__ import annotations

import time

from slipway_release import durable, processes, restore, units
from slipway_release.errors import SlipwayError
from slipway_release.settings import Settings
from slipway_release.state import Operation, Store
from slipway_release.work import Work


def switch(work: Work) -> str:
    """Send the public to the new release, with one rename."""
    durable.point(work.settings.current, f"releases/{work.version}")
    work.switched = time.time()
    return f"{work.operation.previous or 'nothing'} → {work.version}"


def serve(settings: Settings, version: str) -> None:
    """Start a release without waiting for it: its socket takes requests at once."""
    service = units.service(settings.app, version)
    listener = units.listener(settings.app, version)
    units.forget_failures(service, listener)
    units.start(listener)
    units.begin(service)
    processes.begin(settings, version)


def put_back(settings: Settings, store: Store, operation: Operation) -> list[str]:
    """Return to what served before an operation: the link first, everything else later.

    What does not work is passed over, because the rest matters even more then.

    Returns:
        What could not be done, in sentences.
    """
    troubles: list[str] = []
    previous = operation.previous
    if store.current() == operation.version:
        if previous:
            durable.point(settings.current, f"releases/{previous}")
        else:
            durable.remove(settings.current)
    try:
        if previous and previous not in units.serving(settings.app):
            serve(settings, previous)
        elif previous:
            processes.begin(settings, previous)
    except (SlipwayError, OSError) as error:
        troubles.append(f"{previous} could not be started again: {error}")
    try:
        stop(settings, operation.version)
        units.stop(*processes.jobs(settings, operation.version))
    except (SlipwayError, OSError) as error:
        troubles.append(f"{operation.version} could not be stopped: {error}")
    return troubles


def stop(settings: Settings, version: str) -> None:
    """Stop a release, but not a job that a timer has started, and clear what its failures left."""
    app = settings.app
    names = [units.service(app, version), units.listener(app, version)]
    names += processes.workers(settings, version) + processes.timers(settings, version)
    if settings.has_preflight:
        names.append(f"{app}-preflight@{version}.service")
    if settings.has_migrations:
        names.append(f"{app}-migrate@{version}.service")
    if settings.has_restore_point:
        names.append(restore.unit(app, version))
    units.stop(*names)
    # A unit that stays failed would raise an alarm about a release that nobody runs.
    units.forget_failures(*names, *processes.jobs(settings, version))
