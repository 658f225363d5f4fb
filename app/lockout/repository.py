"""The queries on failed guesses."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import insert_or_ignore
from app.lockout.models import LoginCounter

_LOCK = (
    select(
        LoginCounter.client,
        LoginCounter.failures,
        LoginCounter.last_failed_at,
        LoginCounter.locked_until,
        LoginCounter.known_until,
    )
    .order_by(LoginCounter.client)
    .with_for_update()
)


async def lock(
    session: AsyncSession, subject: bytes, clients: Collection[str]
) -> dict[str, Row[*tuple[Any, ...]]]:
    """Return the counters of some clients, made if there are none, and keep others from them.

    Whoever locks several does so in the order of the clients, so that nobody waits for each other.
    """
    rows = [{"subject": subject, "client": client} for client in sorted(clients)]
    await session.execute(insert_or_ignore(session, LoginCounter).values(rows))
    query = _LOCK.where(LoginCounter.subject == subject, LoginCounter.client.in_(clients))
    return {row.client: row for row in (await session.execute(query)).all()}


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
    found = (await session.execute(_LOCK.where(LoginCounter.subject == subject))).all()
    await session.execute(
        update(LoginCounter)
        .where(LoginCounter.subject == subject)
        .values(failures=0, last_failed_at=None, locked_until=None)
    )
    return any(row.locked_until is not None and row.locked_until > now for row in found)


async def delete_stale(session: AsyncSession, now: datetime, before: datetime) -> None:
    """Forget counters that say nothing any more."""
    await session.execute(
        delete(LoginCounter).where(
            or_(LoginCounter.known_until.is_(None), LoginCounter.known_until < now),
            or_(LoginCounter.locked_until.is_(None), LoginCounter.locked_until < now),
            or_(LoginCounter.last_failed_at.is_(None), LoginCounter.last_failed_at < before),
        )
    )
