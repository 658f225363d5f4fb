"""Make room on the disk without a release."""

from __future__ import annotations

import time

from slipway_release import finish, units
from slipway_release.keep import kept_versions
from slipway_release.lock import Holder, OperationLock
from slipway_release.settings import Settings
from slipway_release.state import Store


def prune(settings: Settings, number: int, who: str) -> str:
    """Remove all but some of the releases; what is live, runs, or is the way back always stays.

    Args:
        settings: The service's settings.
        number: How many stay.
        who: The person who asks for it.

    Raises:
        LockedError: An operation is under way.
    """
    now = time.time()
    holder = Holder(settings.app, "prune", f"to {number}", who, now, "prune", f"prune-{now:.0f}")
    with OperationLock(settings.lock, holder):
        store = Store(settings)
        operation = store.operation()
        # An operation that a crash left behind has a say in what is needed.
        needed = {operation.version, operation.previous or ""} if operation else set()
        running = units.running(settings.app) | needed
        kept = kept_versions(store, number, running)
        removed = finish.remove_releases(settings, store, kept)
    return f"Removed {', '.join(removed) or 'nothing'}; {', '.join(sorted(kept))} stay."
