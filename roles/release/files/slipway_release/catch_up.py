"""A host that was away during a release of its fleet gets it from its peers at its return.

The balancer leaves it out until it answers with the fleet's version, so that nothing is in a hurry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from slipway_release import fleet
from slipway_release.errors import LockedError
from slipway_release.fleet import Peers, Record
from slipway_release.settings import Settings
from slipway_release.state import Store
from slipway_release.work import Order

_WHO = "catch-up"


def run(settings: Settings, directory: Path, operate: Callable[[Order], int]) -> tuple[int, str]:
    """Bring this host to what its fleet serves, if the fleet has gone on without it.

    Args:
        settings: Of the service.
        directory: Folder with the settings of the services.
        operate: Runs an operation and returns its exit status.

    Returns:
        The exit status, and what there is to tell; '' when there is nothing to do.
    """
    peers = fleet.load(settings, directory)
    if peers is None:
        return 0, ""
    address, wanted = fleet.newest(settings, peers)
    if wanted.serial <= fleet.record(settings).serial:
        return 0, ""
    tried = settings.lock.parent / f"{settings.app}-catch-up.failed"
    # What has failed once is not tried again before the next release or the next boot.
    if tried.exists() and tried.read_text() == str(wanted.serial):
        return 0, ""
    try:
        status = _follow(settings, peers, address, wanted, operate)
    except LockedError:
        return 0, "Another operation is under way."
    if status:
        tried.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        tried.write_text(str(wanted.serial))
        return status, f"{settings.app} could not catch up with {wanted.version} of {address}."
    return 0, fleet.mark(settings, wanted.version, wanted.serial)


def _follow(
    settings: Settings,
    peers: Peers,
    address: str,
    wanted: Record,
    operate: Callable[[Order], int],
) -> int:
    store = Store(settings)
    if store.current() == wanted.version:
        return 0
    started = time.time()
    operation = f"catch-up-{wanted.serial}-{int(started)}"
    known = store.get(wanted.version)
    if known and known.verdict in {"good", "withdrawn"} and known.stage == "installed":
        return operate(Order("rollback", wanted.version, _WHO, started, operation))
    fleet.fetch(settings, peers, address, wanted)
    return operate(
        Order(
            "release",
            wanted.version,
            _WHO,
            started,
            operation,
            sha256=wanted.sha256,
            # The fleet has decided; this host only follows.
            allow_downgrade=True,
        )
    )
