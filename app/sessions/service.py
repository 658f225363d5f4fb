"""Opening, continuing and ending sessions.

A session is a family of refresh tokens, of which only the newest is good. A token that comes a
second time is in two hands, and nobody can tell which of them is the thief's, so the session ends.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.accounts import Credential, Origin
from app.db import Database, after_commit
from app.opaque_tokens import hash_token, new_token
from app.pruning import BATCH, until_none_is_left
from app.sessions import repository
from app.settings import Settings

# What an old token and its nonce become; several with several keys, the current one's first.
Successors = Callable[[str, bytes], Sequence[str]]

# Is told the ids of sessions that have ended, when that is in the database.
TellEnded = Callable[[Sequence[int]], Awaitable[None]]

_TELL = "tell_ended_sessions"
_PREFIX = "hrt_"
_NONCE_BYTES = 16


class Reason(StrEnum):
    """Why a session ended."""

    LOGOUT = "logout"
    ENDED = "ended_by_owner"
    REUSE = "token_reused"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a name
    PASSWORD_RESET = "password_reset"  # noqa: S105 - a name
    DEACTIVATED = "deactivated"
    ADMINISTRATOR = "administrator"
    REPLACED = "replaced_by_login"
    TOO_MANY = "too_many"


@dataclass(frozen=True, slots=True)
class Session:
    """A session that goes on, as its owner sees it."""

    id: int
    kind: str
    scopes: str
    client_address: str
    user_agent: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a refresh token is."""

    session_id: int
    user_id: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that has just begun, with its first refresh token, and those that it has ended."""

    id: int
    refresh_token: str
    refresh_seconds: int
    surplus: Sequence[int]


@dataclass(frozen=True, slots=True)
class Rotated:
    """A session that was continued: whose it is, what it allows, and its new refresh token."""

    id: int
    user_id: int
    kind: Credential
    scopes: tuple[str, ...]
    refresh_token: str
    refresh_seconds: int


@dataclass(frozen=True, slots=True)
class Reused:
    """A refresh token that was used before; its session is `ended` now, if it was not already."""

    id: int
    user_id: int | None
    ended: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """A refresh token that is unknown, has expired, or whose session is over."""


async def open_session(  # noqa: PLR0913 - whose, how, what for, from where
    session: AsyncSession,
    settings: Settings,
    user_id: int,
    *,
    kind: Credential,
    scopes: Sequence[str],
    origin: Origin,
) -> Opened:
    """Begin a session."""
    now = datetime.now(UTC)
    ends = now + timedelta(seconds=settings.session_lifetime)
    session_id = await repository.add_session(
        session,
        {
            "user_id": user_id,
            "kind": kind.value,
            "scopes": " ".join(scopes),
            "client_address": origin.address or "",
            "user_agent": origin.user_agent,
            "created_at": now,
            "last_used_at": now,
            "expires_at": ends,
        },
    )
    surplus = await repository.end_surplus(
        session, user_id, now, Reason.TOO_MANY.value, settings.sessions_per_user
    )
    _tell_later(session, surplus)
    token = new_token(_PREFIX)
    seconds = await _add_token(session, settings, session_id, token, now, ends)
    return Opened(session_id, token, seconds, surplus)


async def rotate(
    session: AsyncSession, settings: Settings, token: str, successors: Successors, origin: Origin
) -> Rotated | Reused | Ended:
    """Continue a session by its refresh token, which is used up by it.

    The outcomes that refuse are returned, not raised: what a reuse has ended must be committed
    although the request fails.

    Args:
        session: the transaction.
        settings: lifetimes and the grace.
        token: what the client has presented.
        successors: derives the next token from the old one. So two refreshes of one browser that
            come at the same time get the same one, and no second family can grow.
        origin: where the request came from.
    """
    now = datetime.now(UTC)
    token_hash = hash_token(token)
    taken = await repository.take_token(session, token_hash, now)
    if taken is None:
        return await _judge_used(session, settings, token, successors, now)
    session_id, nonce = taken
    live = await repository.lock_live(session, session_id, now)
    if live is None:
        return Ended()
    fresh = successors(token, nonce)[0]
    seconds = await _add_token(session, settings, session_id, _PREFIX + fresh, now, live.expires_at)
    await repository.touch(
        session, session_id, {"last_used_at": now, "client_address": origin.address or ""}
    )
    scopes = tuple(live.scopes.split())
    kind = Credential(live.kind)
    return Rotated(session_id, live.user_id, kind, scopes, _PREFIX + fresh, seconds)


async def _judge_used(
    session: AsyncSession, settings: Settings, token: str, successors: Successors, now: datetime
) -> Rotated | Reused | Ended:
    found = await repository.find_token(session, hash_token(token))
    if found is None or found.used_at is None:
        return Ended()
    live = await repository.lock_live(session, found.session_id, now)
    if live is None:
        return Reused(found.session_id, None, ended=False)
    if now - found.used_at < timedelta(seconds=settings.refresh_grace):
        for text in successors(token, found.nonce):
            fresh = _PREFIX + text
            next_one = await repository.find_token(session, hash_token(fresh))
            if next_one is not None and next_one.used_at is None:
                seconds = int((next_one.expires_at - now).total_seconds())
                scopes = tuple(live.scopes.split())
                kind = Credential(live.kind)
                return Rotated(found.session_id, live.user_id, kind, scopes, fresh, seconds)
    await end(session, live.user_id, Reason.REUSE, only=found.session_id)
    return Reused(found.session_id, live.user_id, ended=True)


async def _add_token(  # noqa: PLR0913, PLR0917 - the columns of one row
    session: AsyncSession,
    settings: Settings,
    session_id: int,
    token: str,
    now: datetime,
    session_ends: datetime,
) -> int:
    """Store a refresh token; return the seconds that it is valid."""
    expires = min(now + timedelta(seconds=settings.refresh_token_lifetime), session_ends)
    await repository.add_token(
        session,
        {
            "session_id": session_id,
            "token_hash": hash_token(token),
            "nonce": os.urandom(_NONCE_BYTES),
            "created_at": now,
            "expires_at": expires,
        },
    )
    return int((expires - now).total_seconds())


async def end(session: AsyncSession, user_id: int, reason: Reason, *, only: int) -> bool:
    """End one session of a user; say whether it went on until now."""
    now = datetime.now(UTC)
    ended = await repository.end(session, user_id, now, reason.value, only=only)
    _tell_later(session, ended)
    return bool(ended)


async def end_all(
    session: AsyncSession, user_id: int, reason: Reason, *, keep: int | None = None
) -> int:
    """End all sessions of a user, or all but one; return how many went on until now."""
    now = datetime.now(UTC)
    ended = await repository.end(session, user_id, now, reason.value, keep=keep)
    _tell_later(session, ended)
    return len(ended)


def when_ended(database: Database, tell: TellEnded) -> None:
    """Have something told of each session that ends in the transactions of a database."""
    database.known[_TELL] = tell


def _tell_later(session: AsyncSession, session_ids: Sequence[int]) -> None:
    tell: TellEnded | None = session.info.get(_TELL)
    if tell is not None and session_ids:
        after_commit(session, lambda: tell(session_ids))


async def goes_on(session: AsyncSession, session_id: int) -> bool:
    """Say whether a session has not ended yet."""
    return await repository.is_live(session, session_id, datetime.now(UTC))


async def of_token(connection: AsyncConnection | AsyncSession, token: str) -> Owner | None:
    """Return whose a refresh token is, whatever became of it."""
    found = await repository.owner_of_token(connection, hash_token(token))
    return Owner(*found) if found else None


async def list_sessions(database: Database, settings: Settings, user_id: int) -> list[Session]:
    """Return the sessions of a user that go on, the one used last first.

    Each ends when its newest refresh token does, if it is not used before.
    """
    now, unused = datetime.now(UTC), timedelta(seconds=settings.refresh_token_lifetime)
    async with database.reading() as connection:
        rows = await repository.list_live(connection, user_id, now, now - unused)
    listed = [Session(*row) for row in rows]
    return [
        replace(one, expires_at=min(one.expires_at, one.last_used_at + unused)) for one in listed
    ]


async def clean_up(database: Database, batch: int = BATCH) -> None:
    """Forget what has expired."""
    now = datetime.now(UTC)
    # No token outlives its session, so that no session takes many with it.
    for forget in (repository.delete_expired_tokens, repository.delete_expired):
        await until_none_is_left(database, partial(forget, now=now), batch)
