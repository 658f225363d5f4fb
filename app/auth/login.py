"""Logging in with a name and a password."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from app import lockout, sessions, users
from app.accounts import Account, Credential, Origin
from app.audit import Event, record
from app.auth.grants import Grant, grant_to, note_end
from app.errors import InvalidCredentialsError
from app.permissions import granted_scopes
from app.resources import Resources
from app.sessions import Reason


class _ChangedMeanwhileError(Exception):
    """The hash that was verified is not the stored one any more."""


@dataclass(frozen=True, slots=True)
class Login:
    """What somebody gives to get in; no scopes mean all that are allowed.

    Attributes:
        origin: where the request came from.
        kind: whether the session is kept in tokens or in cookies.
        replaced_token: the refresh token of a session that ends with this login.
    """

    username: str
    password: str = field(repr=False)
    scopes: Sequence[str]
    origin: Origin
    kind: Credential = Credential.TOKEN
    replaced_token: str | None = field(default=None, repr=False)


async def log_in(resources: Resources, login: Login) -> Grant:
    """Begin a session with a name and a password.

    An unknown name, a wrong password, a locked and a deactivated account get the same answer after
    the same work, so that nobody can find out who has an account, and what is the matter with it.

    Raises:
        InvalidCredentialsError: when the login fails, for whatever reason.
    """
    try:
        return await _attempt(resources, login, is_last=False)
    except _ChangedMeanwhileError:
        # Most often another login has renewed the hash of the same password.
        return await _attempt(resources, login, is_last=True)


async def _attempt(resources: Resources, login: Login, *, is_last: bool) -> Grant:
    """Verify the password and begin a session.

    Raises:
        InvalidCredentialsError: when the login fails.
        _ChangedMeanwhileError: when the hash changed meanwhile, and this is not the last attempt.
    """
    # No connection is held while the password waits for its turn to be hashed.
    async with resources.database.reading() as connection:
        found = await users.find_credentials(connection, login.username)
    stored = found.password_hash if found else None
    right, newer_hash = await resources.passwords.verify(login.password, stored)
    # What is counted and written down stays, although the request fails: the transaction ends well.
    async with resources.database.writing() as session:
        attempt = _Attempt(login, found, right=right, is_last=is_last)
        account = await _admit(resources, session, attempt)
        if account is not None:
            if newer_hash is not None:
                await users.set_password_hash(session, account.id, newer_hash)
            return await _open(resources, session, account, login)
    raise InvalidCredentialsError


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A login, the account of its name, and whether the password is that of the account."""

    login: Login
    found: users.Credentials | None
    right: bool
    is_last: bool


async def _admit(resources: Resources, session: AsyncSession, attempt: _Attempt) -> Account | None:
    """Count an attempt, and return the account if it succeeds."""
    login, found = attempt.login, attempt.found
    rules, origin = lockout.Rules.of(resources.settings), login.origin
    subject = lockout.subject_of("login", login.username)
    user_id = found.account.id if found else None
    right = attempt.right and found is not None and found.account.is_active
    gate = await lockout.enter(session, rules, subject, origin.network, right=right)
    account = None
    if gate.passed and found is not None:
        account = await users.confirm(session, found.account.id, found.password_hash)
        if account is None and not attempt.is_last:
            raise _ChangedMeanwhileError
    if account is None:
        reason = "too_early" if gate.early else "credentials"
        if gate.locked and not gate.locks:
            reason = "locked"
        details: dict[str, str | int] = {"reason": reason, "failures": gate.failures}
        await record(session, Event("login.failed", origin, user_id, details=details))
        if gate.locks:
            await record(session, Event("account.locked", origin, user_id))
        return None
    await lockout.succeed(session, rules, subject, origin.network)
    return account


async def _open(
    resources: Resources, session: AsyncSession, account: Account, login: Login
) -> Grant:
    origin = login.origin
    if login.replaced_token:
        replaced = await sessions.of_token(session, login.replaced_token)
        if replaced is not None:
            owner, number = replaced.user_id, replaced.session_id
            if await sessions.end(session, owner, Reason.REPLACED, only=number):
                await note_end(session, origin, owner, account.id, number, Reason.REPLACED)
    scopes = granted_scopes(account.role, login.scopes)
    opened = await sessions.open_session(
        session, resources.settings, account.id, kind=login.kind, scopes=scopes, origin=origin
    )
    for surplus in opened.surplus:
        await note_end(session, origin, account.id, account.id, surplus, Reason.TOO_MANY)
    details = {"session": opened.id, "kind": login.kind.value}
    await record(session, Event("login.succeeded", origin, account.id, account.id, details))
    return grant_to(resources, account, opened, scopes)
