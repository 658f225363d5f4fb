"""The queries on security events."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.audit.models import AuditEvent

COLUMNS = (
    AuditEvent.id,
    AuditEvent.at,
    AuditEvent.event,
    AuditEvent.user_id,
    AuditEvent.actor_id,
    AuditEvent.client_address,
    AuditEvent.request_id,
    AuditEvent.details,
)


async def add(session: AsyncSession, values: Mapping[str, Any]) -> None:
    """Add one event."""
    await session.execute(insert(AuditEvent).values(**values))


async def find(  # noqa: PLR0913 - the filters of one query
    connection: AsyncConnection,
    *,
    user_id: int | None,
    event: str | None,
    since: datetime | None,
    until: datetime | None,
    before: int | None,
    limit: int,
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return events, newest first."""
    query = select(*COLUMNS).order_by(AuditEvent.id.desc()).limit(limit)
    if user_id is not None:
        query = query.where(AuditEvent.user_id == user_id)
    if event is not None:
        query = query.where(AuditEvent.event == event)
    if since is not None:
        query = query.where(AuditEvent.at >= since)
    if until is not None:
        query = query.where(AuditEvent.at < until)
    if before is not None:
        query = query.where(AuditEvent.id < before)
    return (await connection.execute(query)).all()


async def prune(session: AsyncSession, most: int, days: int) -> int:
    """Remove some of what is older; the database itself keeps the last 90 days."""
    query = select(func.prune_audit_events(days, most))
    removed: int = (await session.execute(query)).scalar_one()
    return removed
