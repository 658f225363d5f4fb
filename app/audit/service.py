"""Writing security events to the table and to the journal, and reading them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import Origin
from app.audit import repository
from app.db import Database, after_commit
from app.errors import UnavailableError
from app.log import get_logger
from app.pruning import BATCH, until_none_is_left

# What on-call should see without searching for it.
_WARNINGS = frozenset({"token.reused", "account.locked", "access.forbidden", "limit.exceeded"})


@dataclass(frozen=True, slots=True)
class Event:
    """Something that matters to the security of an account.

    Attributes:
        name: what happened, such as `login.failed`; stable, so that it can be searched for.
        origin: where the request came from.
        user_id: the account that it happened to, if there is one.
        actor_id: the account that did it, if it is known.
        details: more about it; never a secret, never what somebody typed.
    """

    name: str
    origin: Origin
    user_id: int | None = None
    actor_id: int | None = None
    details: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Query:
    """Which events are asked for.

    Attributes:
        user_id: of this account.
        event: of this name.
        since: at this time or later.
        until: before this time.
        before: with a smaller id, which is how the next page is asked for.
        limit: at most so many.
    """

    user_id: int | None = None
    event: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Found:
    """One event of the trail."""

    id: int
    at: datetime
    event: str
    user_id: int | None
    actor_id: int | None
    client_address: str | None
    request_id: str | None
    details: Mapping[str, Any]


async def record(session: AsyncSession, event: Event) -> None:
    """Write an event into the table, and into the journal when the transaction has ended well."""
    await repository.add(
        session,
        {
            "event": event.name,
            "user_id": event.user_id,
            "actor_id": event.actor_id,
            "client_address": event.origin.address,
            "request_id": event.origin.request_id,
            "details": dict(event.details),
        },
    )
    after_commit(session, lambda: _tell(event))


async def note(database: Database, event: Event) -> None:
    """Write an event in a transaction of its own, without failing the request.

    When the database is down the journal has it all the same.
    """
    try:
        async with database.writing() as session:
            await record(session, event)
    except UnavailableError:
        _tell(event)


async def find(database: Database, query: Query) -> list[Found]:
    """Return events, newest first."""
    async with database.reading() as connection:
        rows = await repository.find(
            connection,
            user_id=query.user_id,
            event=query.event,
            since=query.since,
            until=query.until,
            before=query.before,
            limit=query.limit,
        )
    return [Found(*row) for row in rows]


async def prune(database: Database, days: int, batch: int = BATCH) -> None:
    """Forget the events that are older than so many days."""
    await until_none_is_left(database, partial(repository.prune, days=days), batch)


def _tell(event: Event) -> None:
    log = get_logger()
    write = log.warning if event.name in _WARNINGS else log.info
    details = {f"audit_{name}": value for name, value in event.details.items()}
    about = "" if event.user_id is None else f" (user {event.user_id})"
    write(
        "audit",
        message=f"audit: {event.name}{about}",
        audit_event=event.name,
        audit_user_id=event.user_id,
        audit_actor_id=event.actor_id,
        client_address=event.origin.address,
        **details,
    )
