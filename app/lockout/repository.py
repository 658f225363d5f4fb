"""The queries on failed guesses."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.lockout.models import LoginCounter
from app.pruning import delete_some

_COUNTER = (
    LoginCounter.client,
    LoginCounter.failures,
    LoginCounter.last_failed_at,
    LoginCounter.locked_until,
    LoginCounter.known_until,
)


async def lock(
    session: AsyncSession, subject: bytes, clients: Collection[str]
) -> dict[str, Row[*tuple[Any, ...]]]:
    """Return the counters of some clients, made if there are none, and keep others from them.

    Whoever locks several does so in the order of the clients, so that nobody waits for each other.
    """
    rows = [{"subject": subject, "client": client} for client in sorted(clients)]
    # Changing nothing locks the counters that there are, so that none is forgotten meanwhile.
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = (
        insert(LoginCounter)
        .values(rows)
        .on_conflict_do_update(
            index_elements=[LoginCounter.subject, LoginCounter.client],
            set_={"failures": LoginCounter.failures},
        )
        .returning(*_COUNTER)
    )
    found = await session.execute(statement)
    return {row.client: row for row in found.all()}


async def change(
    session: AsyncSession, subject: bytes, client: str, values: Mapping[str, Any]
) -> None:
    """Write one counter."""
    await session.execute(
        update(LoginCounter)
        .where(LoginCounter.subject == subject, LoginCounter.client == client)
        .values(**values)
    )


async def reset(session: AsyncSession, subject: bytes, now: datetime) -> bool:
    """Forget all failures at a secret; say whether it was locked for anybody."""
    query = (
        select(*_COUNTER)
        .where(LoginCounter.subject == subject)
        .order_by(LoginCounter.client)
        .with_for_update()
    )
    found = (await session.execute(query)).all()
    await session.execute(
        update(LoginCounter)
        .where(LoginCounter.subject == subject)
        .values(failures=0, last_failed_at=None, locked_until=None)
    )
    return any(row.locked_until is not None and row.locked_until > now for row in found)


async def delete_stale(session: AsyncSession, most: int, now: datetime, before: datetime) -> int:
    """Forget counters that say nothing any more; return how many."""
    return await delete_some(
        session,
        LoginCounter,
        most,
        or_(LoginCounter.known_until.is_(None), LoginCounter.known_until < now),
        or_(LoginCounter.locked_until.is_(None), LoginCounter.locked_until < now),
        or_(LoginCounter.last_failed_at.is_(None), LoginCounter.last_failed_at < before),
    )
