"""What follows when an operation did not come to its end: by a failure, or by a crash."""

from __future__ import annotations

import contextlib
import dataclasses

from slipway_release import contract, finish, install, journal, processes, switch
from slipway_release.errors import FailedError, LockedError, SlipwayError
from slipway_release.lock import Holder, OperationLock
from slipway_release.progress import Progress
from slipway_release.settings import Settings
from slipway_release.state import Operation, Store, Verdict
from slipway_release.work import Order, Work

_INTERRUPTED = "interrupted before it was proved"


def abandon(work: Work, reason: str, *, failed: bool) -> list[str]:
    """Put the host back after an operation that was not accepted.

    Args:
        work: The operation.
        reason: Why it ended.
        failed: Whether the release is to blame; otherwise it may be tried again as if new.

    Returns:
        What could not be done, in sentences.
    """
    if work.operation.verb == "contract":
        troubles = contract.put_back(work.settings, work.operation)
    else:
        troubles = switch.put_back(work.settings, work.store, work.operation)
    try:
        _note(work, reason, failed=failed)
        finish.add_history(work, "failed", reason)
        work.store.end_operation()
    except OSError as error:
        # The note of the operation stays, so the next one does this again.
        troubles.append(f"The end of the operation could not be noted: {error}")
    return troubles


def _note(work: Work, reason: str, *, failed: bool) -> None:
    release = work.store.get(work.version)
    if release is None or work.operation.verb == "contract":
        return
    if release.stage == "incomplete":
        install.remove_folder(work.settings, work.version)
    if failed and work.operation.verb == "release":
        verdict: Verdict = "withdrawn" if release.activated else "failed"
        work.store.save(dataclasses.replace(release, verdict=verdict, reason=reason))
    elif release.stage == "incomplete":
        work.store.forget(work.version)


def converge(settings: Settings, store: Store) -> str | None:
    """Bring an operation that a crash left behind to its end; the caller holds the lock.

    A release that was accepted stays and the work after it is done; any other is put back.

    Returns:
        What was done, in a sentence; None when nothing was left behind.
    """
    operation = store.operation()
    if operation is None:
        return None
    work = _resume(settings, store, operation)
    if operation.accepted:
        for run in (finish.drain, finish.record, finish.prune):
            with contextlib.suppress(SlipwayError, OSError):
                run(work)
        store.end_operation()
        story = f"The {operation.verb} of {operation.version} was interrupted: finished it."
    else:
        troubles = abandon(work, _INTERRUPTED, failed=False)
        live = store.current() or "nothing"
        story = f"The {operation.verb} of {operation.version} was {_INTERRUPTED}: {live} is live."
        story = " ".join([story, *troubles])
    work.progress.tell(story, journal.WARNING)
    return story


def _resume(settings: Settings, store: Store, operation: Operation) -> Work:
    order = Order(operation.verb, operation.version, operation.who, operation.started, operation.id)
    progress = Progress(settings, operation.id, operation.verb, operation.version)
    return Work(settings, store, progress, order, operation, begun=True)


def _holder(settings: Settings, verb: str, operation: Operation) -> Holder:
    return Holder(
        app=settings.app,
        verb=verb,
        version=operation.version,
        who="slipway",
        since=operation.started,
        step="recovery",
        operation=operation.id,
    )


def recover(settings: Settings) -> None:
    """Do the same from outside an operation; one that is under way is left alone."""
    store = Store(settings)
    operation = store.operation()
    if operation is None:
        return
    lock = OperationLock(settings.lock, _holder(settings, "recovery", operation))
    with contextlib.suppress(LockedError), lock:
        converge(settings, store)


def boot(settings: Settings) -> str:
    """Start what `current` names, after a power cut has been cleared away.

    Returns:
        What was started, in a sentence.

    Raises:
        FailedError: It could not be started.
    """
    try:
        recover(settings)
    except (SlipwayError, OSError, ValueError) as error:
        # What is live can be started whatever the rest looks like.
        journal.send(f"{settings.app}: recovery at boot failed: {error}", journal.ERROR)
    live = Store(settings).current()
    if live is None:
        return f"{settings.app} has no release yet: nothing to start."
    if not settings.release(live).is_dir():
        raise FailedError(f"{settings.current} leads to {live}, whose folder is gone.")
    switch.serve(settings, live)
    processes.stop_strangers(settings)
    return f"{settings.app} {live} starts."
