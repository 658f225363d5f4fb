"""The one query of an authenticated request, for each kind of credential."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Database, UtcDateTime
from app.keys.models import ApiKey
from app.prepared import Prepared
from app.sessions.models import UserSession
from app.users.repository import ACCOUNT, User

# Built once: every authenticated request runs one of them.
_NOW = bindparam("now", type_=UtcDateTime)
_BY_SESSION = Prepared(
    select(*ACCOUNT, UserSession.created_at)
    .join(UserSession, UserSession.user_id == User.id)
    .where(
        UserSession.id == bindparam("session_id"),
        User.id == bindparam("user_id"),
        User.is_active,
        UserSession.ended_at.is_(None),
        UserSession.expires_at > _NOW,
    )
)
_BY_KEY = Prepared(
    select(*ACCOUNT, ApiKey.id, ApiKey.scopes, ApiKey.last_used_at)
    .join(ApiKey, ApiKey.user_id == User.id)
    .where(
        ApiKey.key_hash == bindparam("key_hash"),
        User.is_active,
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > _NOW),
    )
)


async def by_session(
    database: Database, user_id: int, session_id: int, now: datetime
) -> Sequence[Any] | None:
    """Return the active account of a session that goes on, and when it began."""
    values = {"user_id": user_id, "session_id": session_id, "now": now}
    rows = await database.fetch(_BY_SESSION, values)
    return rows[0] if rows else None


async def by_key(database: Database, key_hash: bytes, now: datetime) -> Sequence[Any] | None:
    """Return the active account of a key that is good, its id, its scopes and its last use."""
    rows = await database.fetch(_BY_KEY, {"key_hash": key_hash, "now": now})
    return rows[0] if rows else None


async def going_on(
    database: Database, session_ids: Sequence[int], now: datetime, used_after: datetime
) -> Sequence[int]:
    """Return those of the sessions that go on, with accounts that are active."""
    query = (
        select(UserSession.id)
        .join(User, User.id == UserSession.user_id)
        .where(
            UserSession.id.in_(session_ids),
            User.is_active,
            UserSession.ended_at.is_(None),
            UserSession.expires_at > now,
            UserSession.last_used_at > used_after,
        )
    )
    async with database.reading() as connection:
        return (await connection.execute(query)).scalars().all()


async def note_use(session: AsyncSession, key_id: int, now: datetime) -> None:
    """Write down when a key was used last."""
    await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now))
