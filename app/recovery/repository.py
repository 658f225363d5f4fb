"""The queries on the tokens that are sent by mail."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.pruning import delete_some
from app.recovery.models import MailToken

# The user and the address of a token.
Taken: TypeAlias = Row[int, str]


async def add(session: AsyncSession, values: Mapping[str, Any]) -> None:
    """Store a token."""
    await session.execute(insert(MailToken).values(**values))


async def count_since(session: AsyncSession, user_id: int, purpose: str, since: datetime) -> int:
    """Return how many tokens of a kind a user was sent lately, or is being sent."""
    query = (
        select(func.count())
        .select_from(MailToken)
        .where(
            MailToken.user_id == user_id,
            MailToken.purpose == purpose,
            MailToken.created_at > since,
            MailToken.failed_at.is_(None),
        )
    )
    return (await session.execute(query)).scalar_one()


async def mark_failed(session: AsyncSession, token_hash: bytes, now: datetime) -> None:
    """Note that the mail with a token was not taken; the token stays good."""
    await session.execute(
        update(MailToken).where(MailToken.token_hash == token_hash).values(failed_at=now)
    )


async def find(
    connection: AsyncConnection | AsyncSession, token_hash: bytes, purpose: str, now: datetime
) -> Taken | None:
    """Return the user and the address of a token that is good."""
    query = select(MailToken.user_id, MailToken.email).where(
        MailToken.token_hash == token_hash,
        MailToken.purpose == purpose,
        MailToken.expires_at > now,
    )
    return (await connection.execute(query)).first()


async def take(
    session: AsyncSession, token_hash: bytes, purpose: str, now: datetime
) -> Taken | None:
    """Use up a token, which of several that try just one can; return its user and its address."""
    statement = (
        delete(MailToken)
        .where(
            MailToken.token_hash == token_hash,
            MailToken.purpose == purpose,
            MailToken.expires_at > now,
        )
        .returning(MailToken.user_id, MailToken.email)
    )
    return (await session.execute(statement)).first()


async def withdraw(session: AsyncSession, user_id: int, purpose: str) -> None:
    """Forget the tokens of a kind that a user has."""
    await session.execute(
        delete(MailToken).where(MailToken.user_id == user_id, MailToken.purpose == purpose)
    )


async def delete_expired(session: AsyncSession, most: int, now: datetime) -> int:
    """Forget tokens whose time is over; return how many."""
    return await delete_some(session, MailToken, most, MailToken.expires_at < now)
