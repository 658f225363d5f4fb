"""Contracting: the schema loses what only older releases need, because a person asks for it."""

from __future__ import annotations

import dataclasses

from slipway_release import restore, schema, units
from slipway_release.errors import FailedError, RefusedError, SlipwayError
from slipway_release.settings import Settings
from slipway_release.state import Operation, Release, Store
from slipway_release.work import Work


@dataclasses.dataclass(frozen=True)
class Plan:
    """What contracting would do.

    Attributes:
        release: The release that is live, whose revisions they are.
        pending: The contract revisions that were not run.
        blockers: Why it cannot be, a sentence each.
        losing: Installed releases that nobody can return to afterwards.
    """

    release: Release
    pending: tuple[str, ...]
    blockers: tuple[str, ...]
    losing: tuple[str, ...]

    def __str__(self) -> str:
        if not self.pending:
            return f"{self.release.version} has no revision that waits to be contracted."
        text = f"{self.release.version}: would contract {schema.plural(self.pending)}."
        if self.losing:
            text += f" No return to {', '.join(self.losing)} is possible afterwards."
        return text


def plan(settings: Settings) -> Plan:
    """Find out what contracting the live release would do.

    Raises:
        RefusedError: Nothing is live.
    """
    store = Store(settings)
    live = store.current()
    release = store.get(live) if live else None
    if live is None or release is None:
        raise RefusedError(f"{settings.app} has no live release here: release a version first.")
    pending = schema.uncontracted(settings, schema.revisions_of(settings, live))
    return Plan(
        release=release,
        pending=pending,
        blockers=tuple(_blockers(settings, store, live, pending)) if pending else (),
        losing=tuple(
            other.version
            for other in store.all()
            if other.version != live
            and other.verdict in {"good", "withdrawn"}
            and _missing(settings, other.version, pending)
        ),
    )


def require(settings: Settings) -> Plan:
    """Return what contracting would do, if it may be.

    Raises:
        RefusedError: A release that runs, or the way back, needs the shape before.
    """
    found = plan(settings)
    if found.blockers:
        raise RefusedError(" ".join(found.blockers))
    return found


def verify(work: Work) -> str:
    """Refuse to contract what is still needed, before anything changes."""
    found = require(work.settings)
    if not found.pending:
        raise RefusedError(str(found))
    work.release = found.release
    version = found.release.version
    work.operation = dataclasses.replace(
        work.operation, version=version, previous=version, revisions=found.pending
    )
    if found.losing:
        work.progress.tell(f"  No return to {', '.join(found.losing)} is possible afterwards.")
    return f"{schema.plural(found.pending)} of {version}"


def run(work: Work) -> str:
    """Run the contract revisions of the live release.

    Raises:
        FailedError: The unit failed; it is taken for begun then, and may be run again.
    """
    settings, version = work.settings, work.version
    pending = work.operation.revisions
    # Before the first change: whatever happens on the way, no older release may come back.
    schema.note_begun(settings, version, pending)
    try:
        units.run(_unit(settings, version), f"The contraction of {version}")
    except FailedError as error:
        raise FailedError(
            f"{error}{restore.hint(work)} {version} serves on. When the cause is gone: `slipway "
            f"contract` again.",
            error.lines,
        ) from error
    schema.note_contracted(settings, pending)
    return schema.plural(pending)


def put_back(settings: Settings, operation: Operation) -> list[str]:
    """End what an operation that did not come to its end left; what serves is not touched.

    Returns:
        What could not be done, in sentences.
    """
    names = [_unit(settings, operation.version)]
    if settings.has_restore_point:
        names.append(restore.unit(settings.app, operation.version))
    try:
        units.stop(*names)
        units.forget_failures(*names)
    except (SlipwayError, OSError) as error:
        return [f"{', '.join(names)} could not be stopped: {error}"]
    return []


def _unit(settings: Settings, version: str) -> str:
    return f"{settings.app}-contract@{version}.service"


def _missing(settings: Settings, version: str, pending: tuple[str, ...]) -> tuple[str, ...]:
    held = {revision.id for revision in schema.revisions_of(settings, version)}
    return tuple(one for one in pending if one not in held)


def _blockers(settings: Settings, store: Store, live: str, pending: tuple[str, ...]) -> list[str]:
    blockers = []
    if not settings.has_contract:
        blockers.append(
            f"{live} has {schema.plural(pending)} to contract, but {settings.app} has no command "
            f"for it: set app_contract_command in the inventory and run playbook.yml."
        )
    for version in sorted(units.running(settings.app) - {live}):
        missing = _missing(settings, version, pending)
        pair = units.service(settings.app, version), units.listener(settings.app, version)
        if missing:
            blockers.append(
                f"{version} still runs and needs the shape before {schema.plural(missing)} of "
                f"{live}: stop it (`systemctl stop {' '.join(pair)}`)."
            )
    back = store.last_good()
    if back and (missing := _missing(settings, back, pending)):
        blockers.append(
            f"{back}, which a rollback returns to, was built before {schema.plural(missing)} of "
            f"{live} and needs the shape before: release once more, so that the way back is a "
            f"release that has {'them' if len(missing) > 1 else 'it'}, then contract."
        )
    return blockers
