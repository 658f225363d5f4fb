"""The queries on API keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, true
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.keys.models import ApiKey
from app.pruning import delete_some

LISTED = (
    ApiKey.id,
    ApiKey.name,
    ApiKey.prefix,
    ApiKey.scopes,
    ApiKey.created_at,
    ApiKey.expires_at,
    ApiKey.last_used_at,
)


async def add(session: AsyncSession, values: Mapping[str, Any]) -> Row[*tuple[Any, ...]]:
    """Store a key."""
    return (await session.execute(insert(ApiKey).values(**values).returning(*LISTED))).one()


async def list_keys(connection: AsyncConnection, user_id: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the keys of a user, oldest first."""
    query = select(*LISTED).where(ApiKey.user_id == user_id).order_by(ApiKey.id)
    return (await connection.execute(query)).all()


async def count(session: AsyncSession, user_id: int) -> int:
    """Return how many keys a user has."""
    query = select(func.count()).select_from(ApiKey).where(ApiKey.user_id == user_id)
    return (await session.execute(query)).scalar_one()


async def remove(
    session: AsyncSession, user_id: int, *, key_id: int | None = None, only_default: bool = False
) -> Sequence[str]:
    """Remove keys of a user: all, one, or the default one; return their prefixes."""
    statement = (
        delete(ApiKey)
        .where(
            ApiKey.user_id == user_id,
            ApiKey.id == key_id if key_id is not None else true(),
            ApiKey.is_default if only_default else true(),
        )
        .returning(ApiKey.prefix)
    )
    return (await session.execute(statement)).scalars().all()


async def remove_expired(session: AsyncSession, most: int, before: datetime) -> int:
    """Remove keys that expired before a time; return how many."""
    return await delete_some(session, ApiKey, most, ApiKey.expires_at < before)
