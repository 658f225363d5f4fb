"""Making, listing and revoking API keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import Identity, Origin
from app.audit import Event, record
from app.db import Database
from app.errors import (
    ConflictError,
    InsufficientScopeError,
    InvalidInputError,
    NotAuthenticatedError,
    NotFoundError,
)
from app.keys import repository
from app.opaque_tokens import hash_token, new_token
from app.owners import lock_account
from app.permissions import default_key_scopes
from app.pruning import BATCH, until_none_is_left
from app.sessions import goes_on

DEFAULT_NAME = "default"
_PREFIX = "hak_"
# Tells keys of one owner apart, and is no help to guess one: 240 bits remain.
_VISIBLE = len(_PREFIX) + 8
_KEPT_AFTER_EXPIRY = timedelta(days=30)


class KeyNotFoundError(NotFoundError):
    """The caller has no such key."""

    code = "api_key_not_found"
    message = "You have no such API key."


class TooManyKeysError(ConflictError):
    """The caller has as many keys as one account may have."""

    code = "too_many_api_keys"
    message = "You have as many API keys as one account may have: revoke one first."


@dataclass(frozen=True, slots=True)
class Key:
    """A key as its owner sees it; the key itself is shown only when it is made."""

    id: int
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key should be; without scopes it gets the usual ones."""

    name: str
    scopes: Sequence[str] | None = None
    expires_at: datetime | None = None
    is_default: bool = False


async def list_keys(database: Database, user_id: int) -> list[Key]:
    """Return the keys of a user, oldest first."""
    async with database.reading() as connection:
        rows = await repository.list_keys(connection, user_id)
    return [_key(row) for row in rows]


async def make(
    session: AsyncSession, limit: int, identity: Identity, wanted: NewKey, origin: Origin
) -> tuple[str, Key]:
    """Make a key; return it, which is the only time that it can be seen, and what is kept of it.

    Raises:
        InsufficientScopeError: when the key should be allowed more than who asks for it.
        InvalidInputError: when it should expire in the past.
        NotAuthenticatedError: when the caller's session has ended meanwhile.
        TooManyKeysError: when the account has `limit` of them.
    """
    if wanted.expires_at is not None and wanted.expires_at <= datetime.now(UTC):
        raise InvalidInputError("expires_at", "The end of a key must lie in the future.")
    account, scopes = identity.account, _scopes_for(identity, wanted)
    # Two requests at once would both find room for one more, or replace the default key twice.
    await lock_account(session, account.id)
    # A password reset that came between has revoked all keys: none may follow on it.
    if identity.session_id is not None and not await goes_on(session, identity.session_id):
        raise NotAuthenticatedError
    if wanted.is_default:
        await _revoke(session, identity, origin, only_default=True)
    if await repository.count(session, account.id) >= limit:
        raise TooManyKeysError
    key = new_token(_PREFIX)
    row = await _store(session, account.id, key, scopes, wanted)
    details = {"prefix": key[:_VISIBLE], "scopes": " ".join(scopes)}
    await record(session, Event("key.created", origin, account.id, account.id, details))
    return key, _key(row)


async def _store(
    session: AsyncSession, user_id: int, key: str, scopes: Sequence[str], wanted: NewKey
) -> Sequence[object]:
    values = {
        "user_id": user_id,
        "name": wanted.name,
        "prefix": key[:_VISIBLE],
        "key_hash": hash_token(key),
        "scopes": " ".join(scopes),
        "is_default": wanted.is_default,
        "created_at": datetime.now(UTC),
        "expires_at": wanted.expires_at,
    }
    return await repository.add(session, values)


def _scopes_for(identity: Identity, wanted: NewKey) -> Sequence[str]:
    """Return what a new key may do.

    Raises:
        InsufficientScopeError: when that is more than who asks for it may.
    """
    if wanted.scopes is None:
        usual = default_key_scopes(identity.account.role)
        return [scope for scope in usual if scope in identity.scopes]
    for scope in wanted.scopes:
        if scope not in identity.scopes:
            raise InsufficientScopeError(scope)
    return wanted.scopes


async def revoke(session: AsyncSession, identity: Identity, key_id: int, origin: Origin) -> None:
    """Take one key away.

    Raises:
        KeyNotFoundError: when the caller has no such key.
    """
    if not await _revoke(session, identity, origin, key_id=key_id):
        raise KeyNotFoundError


async def revoke_default(session: AsyncSession, identity: Identity, origin: Origin) -> None:
    """Take the default key away.

    Raises:
        KeyNotFoundError: when the caller has none.
    """
    if not await _revoke(session, identity, origin, only_default=True):
        raise KeyNotFoundError


async def revoke_all(
    session: AsyncSession,
    user_id: int,
    origin: Origin,
    *,
    actor_id: int | None = None,
    details: Mapping[str, str | int] | None = None,
) -> None:
    """Take all keys of an account away, with an audit event for each."""
    for prefix in await repository.remove(session, user_id):
        said = {**(details or {}), "prefix": prefix}
        await record(session, Event("key.revoked", origin, user_id, actor_id, said))


async def clean_up(database: Database, batch: int = BATCH) -> None:
    """Forget keys that have expired long ago."""
    forget = partial(repository.remove_expired, before=datetime.now(UTC) - _KEPT_AFTER_EXPIRY)
    await until_none_is_left(database, forget, batch)


async def _revoke(
    session: AsyncSession,
    identity: Identity,
    origin: Origin,
    *,
    key_id: int | None = None,
    only_default: bool = False,
) -> int:
    user_id = identity.account.id
    prefixes = await repository.remove(session, user_id, key_id=key_id, only_default=only_default)
    for prefix in prefixes:
        event = Event("key.revoked", origin, user_id, user_id, {"prefix": prefix})
        await record(session, event)
    return len(prefixes)


def _key(row: Sequence[object]) -> Key:
    key_id, name, prefix, scopes, *times = row
    return Key(key_id, name, prefix, tuple(str(scopes).split()), *times)  # type: ignore[arg-type]
