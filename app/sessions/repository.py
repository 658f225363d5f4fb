"""The queries on sessions and refresh tokens."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.pruning import delete_some
from app.sessions.models import RefreshToken, UserSession

LISTED = (
    UserSession.id,
    UserSession.kind,
    UserSession.scopes,
    UserSession.client_address,
    UserSession.user_agent,
    UserSession.created_at,
    UserSession.last_used_at,
    UserSession.expires_at,
)


async def add_session(session: AsyncSession, values: Mapping[str, Any]) -> int:
    """Store a session and return its id."""
    statement = insert(UserSession).values(**values).returning(UserSession.id)
    return (await session.execute(statement)).scalar_one()


async def add_token(session: AsyncSession, values: Mapping[str, Any]) -> None:
    """Store a refresh token."""
    await session.execute(insert(RefreshToken).values(**values))


async def take_token(
    session: AsyncSession, token_hash: bytes, now: datetime
) -> Row[int, bytes] | None:
    """Use up a refresh token, which of several that try just one can; return session and nonce."""
    statement = (
        update(RefreshToken)
        .where(
            RefreshToken.token_hash == token_hash,
            RefreshToken.used_at.is_(None),
            RefreshToken.expires_at > now,
        )
        .values(used_at=now)
        .returning(RefreshToken.session_id, RefreshToken.nonce)
    )
    return (await session.execute(statement)).first()


async def find_token(session: AsyncSession, token_hash: bytes) -> Row[*tuple[Any, ...]] | None:
    """Return a refresh token, whatever became of it."""
    query = select(
        RefreshToken.session_id, RefreshToken.nonce, RefreshToken.used_at, RefreshToken.expires_at
    ).where(RefreshToken.token_hash == token_hash)
    return (await session.execute(query)).first()


async def lock_live(
    session: AsyncSession, session_id: int, now: datetime
) -> Row[*tuple[Any, ...]] | None:
    """Return a session that goes on, and keep it so until the transaction is over."""
    query = (
        select(UserSession.user_id, UserSession.kind, UserSession.scopes, UserSession.expires_at)
        .where(
            UserSession.id == session_id,
            UserSession.ended_at.is_(None),
            UserSession.expires_at > now,
        )
        .with_for_update()
    )
    return (await session.execute(query)).first()


async def is_live(session: AsyncSession, session_id: int, now: datetime) -> bool:
    """Say whether a session goes on."""
    query = select(UserSession.id).where(
        UserSession.id == session_id, UserSession.ended_at.is_(None), UserSession.expires_at > now
    )
    return (await session.execute(query)).first() is not None


async def touch(session: AsyncSession, session_id: int, values: Mapping[str, Any]) -> None:
    """Note when and from where a session was used last."""
    await session.execute(update(UserSession).where(UserSession.id == session_id).values(**values))


async def end(  # noqa: PLR0913 - whose, which, when and why
    session: AsyncSession,
    user_id: int,
    now: datetime,
    reason: str,
    *,
    only: int | None = None,
    keep: int | None = None,
) -> Sequence[int]:
    """End sessions of a user that go on: all, only one, or all but one; return their ids."""
    statement = (
        update(UserSession)
        .where(
            UserSession.user_id == user_id,
            UserSession.ended_at.is_(None),
            UserSession.expires_at > now,
        )
        .values(ended_at=now, end_reason=reason)
        .returning(UserSession.id)
    )
    if only is not None:
        statement = statement.where(UserSession.id == only)
    if keep is not None:
        statement = statement.where(UserSession.id != keep)
    return (await session.execute(statement)).scalars().all()


async def end_surplus(
    session: AsyncSession, user_id: int, now: datetime, reason: str, kept: int
) -> Sequence[int]:
    """End the sessions of a user beyond a number, those unused for longest; return their ids."""
    surplus = (
        select(UserSession.id)
        .where(
            UserSession.user_id == user_id,
            UserSession.ended_at.is_(None),
            UserSession.expires_at > now,
        )
        .order_by(UserSession.last_used_at.desc(), UserSession.id.desc())
        .offset(kept)
    )
    statement = (
        update(UserSession)
        .where(UserSession.id.in_(surplus))
        .values(ended_at=now, end_reason=reason)
        .returning(UserSession.id)
    )
    return (await session.execute(statement)).scalars().all()


async def list_live(
    connection: AsyncConnection, user_id: int, now: datetime, used_after: datetime
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the sessions of a user that go on, the one used last first."""
    query = (
        select(*LISTED)
        .where(
            UserSession.user_id == user_id,
            UserSession.ended_at.is_(None),
            UserSession.expires_at > now,
            UserSession.last_used_at > used_after,
        )
        .order_by(UserSession.last_used_at.desc(), UserSession.id.desc())
        .limit(200)
    )
    return (await connection.execute(query)).all()


async def owner_of_token(
    connection: AsyncConnection | AsyncSession, token_hash: bytes
) -> Row[int, int] | None:
    """Return the session and the user of a refresh token, whatever became of it."""
    query = (
        select(UserSession.id, UserSession.user_id)
        .join(RefreshToken, RefreshToken.session_id == UserSession.id)
        .where(RefreshToken.token_hash == token_hash)
    )
    return (await connection.execute(query)).first()


async def delete_expired_tokens(session: AsyncSession, most: int, now: datetime) -> int:
    """Forget refresh tokens whose time is over, used ones too; return how many."""
    return await delete_some(session, RefreshToken, most, RefreshToken.expires_at < now)


async def delete_expired(session: AsyncSession, most: int, now: datetime) -> int:
    """Forget sessions whose time is over, with their refresh tokens; return how many."""
    return await delete_some(session, UserSession, most, UserSession.expires_at < now)
