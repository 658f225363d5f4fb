"""The steps after the proof. They are repeated after a crash until they are through."""

from __future__ import annotations

import contextlib
import dataclasses
import time

from slipway_release import (
    announce,
    durable,
    environment,
    history,
    install,
    metrics,
    processes,
    schema,
    switch,
    units,
)
from slipway_release.history import Entry
from slipway_release.keep import kept_versions
from slipway_release.settings import Settings
from slipway_release.state import Store
from slipway_release.work import Work


def drain(work: Work) -> str:
    """Stop every other release of the service; it ends its requests first."""
    others = sorted(units.running(work.settings.app) - {work.version})
    for version in others:
        switch.stop(work.settings, version)
    processes.stop_strangers(work.settings)
    return ", ".join(others) or "nothing to stop"


def record(work: Work) -> str:
    """Note what came of the operation, in the states and in the history."""
    operation, store = work.operation, work.store
    if operation.verb == "contract":
        add_history(work, "good", "")
        return schema.plural(operation.revisions)
    release = work.release or store.get(operation.version)
    if release:
        activated = work.switched or time.time()
        work.save(dataclasses.replace(release, verdict="good", activated=activated, reason=""))
    before = store.get(operation.previous) if operation.previous else None
    if before and operation.verb == "rollback":
        store.save(dataclasses.replace(before, verdict="withdrawn"))
    add_history(work, "good", "")
    return ""


def add_history(work: Work, result: str, reason: str) -> None:
    """Add the operation to the history, once, and tell the outside."""
    operation = work.operation
    if any(entry.id == operation.id for entry in history.read(work.settings)):
        return
    traffic = None if work.switched is None else work.switched - operation.started
    entry = Entry(
        id=operation.id,
        verb=operation.verb,
        version=operation.version,
        previous=operation.previous,
        who=operation.who,
        started=operation.started,
        traffic=None if traffic is None else round(traffic, 3),
        seconds=round(time.time() - operation.started, 3),
        result=result,
        reason=reason,
        steps=dict(work.steps),
        restore_point=operation.restore_point,
        revisions=list(operation.revisions),
    )
    history.add(work.settings, entry)
    metrics.write(work.settings, work.store)
    announce.begin(work.settings, entry.id)


def prune(work: Work) -> str:
    """Remove the releases, the artifacts and the wheels that are kept no longer."""
    settings, store = work.settings, work.store
    running = units.running(settings.app)
    kept = kept_versions(store, settings.keep, running, work.operation.previous)
    removed = remove_releases(settings, store, kept)
    live = settings.artifact(work.version)
    for artifact in live.parent.glob(f"{settings.app}-v*.tar"):
        # A later one may have come while this operation ran.
        if artifact != live and artifact.stat().st_mtime < work.operation.started:
            durable.remove(artifact)
    with contextlib.suppress(OSError):
        for result in settings.lock.parent.glob(f"{settings.app}-*.result"):
            if work.operation.id not in result.name:
                result.unlink()
    return ", ".join(removed) or "nothing to remove"


def remove_releases(settings: Settings, store: Store, kept: set[str]) -> list[str]:
    """Remove every release that is not kept, and the wheels that no kept one has; name them."""
    removed = [release for release in store.all() if release.version not in kept]
    for release in removed:
        # What is half removed must not look complete after a power cut.
        store.save(dataclasses.replace(release, stage="incomplete"))
        install.remove_folder(settings, release.version)
        store.forget(release.version)
    wheels = (environment.wheels_of(settings.release(version)) for version in kept)
    environment.forget_wheels(settings, set().union(*wheels))
    return [release.version for release in removed]
