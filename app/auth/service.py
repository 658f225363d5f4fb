"""Logging in, continuing a session, ending it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from app import lockout, sessions, users
from app.accounts import Account, Credential, Identity, Origin
from app.audit import Event, record
from app.errors import InvalidCredentialsError, NotAuthenticatedError, NotFoundError
from app.permissions import granted_scopes
from app.recovery import TELL_PASSWORD_CHANGED, withdraw_resets
from app.resources import Resources
from app.sessions import Reason
from app.tokens import Claims


class TokenReuseError(NotAuthenticatedError):
    """A refresh token was presented a second time, so two have it."""

    code = "refresh_token_reused"
    message = (
        "Refresh token reuse: this token was used before, so its session has ended: log in again."
    )


class InvalidRefreshTokenError(NotAuthenticatedError):
    """A refresh token is unknown or has expired, or its session is over."""

    code = "invalid_refresh_token"
    message = "The refresh token is not valid any more: log in again."


class SessionNotFoundError(NotFoundError):
    """The caller has no such session."""

    code = "session_not_found"
    message = "You have no such session."


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody who is logged in gets.

    Attributes:
        access_token: for the next `lifetime` seconds.
        lifetime: of the access token, in seconds.
        refresh_token: for the next `refresh_lifetime` seconds, once.
        refresh_lifetime: of the refresh token, in seconds.
        session_id: that they belong to.
        scopes: that they allow.
    """

    access_token: str = field(repr=False)
    lifetime: int
    refresh_token: str = field(repr=False)
    refresh_lifetime: int
    session_id: int
    scopes: tuple[str, ...]


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
    # No connection is held while the password waits for its turn to be hashed.
    async with resources.database.reading() as connection:
        found = await users.find_credentials(connection, login.username)
    stored = found.password_hash if found else None
    right, newer_hash = await resources.passwords.verify(login.password, stored)
    # What is counted and written down stays, although the request fails: the transaction ends well.
    async with resources.database.writing() as session:
        account = await _admit(resources, session, login, found, right=right)
        if account is not None:
            if newer_hash is not None:
                await users.set_password_hash(session, account.id, newer_hash)
            return await _open(resources, session, account, login)
    raise InvalidCredentialsError


async def _admit(
    resources: Resources,
    session: AsyncSession,
    login: Login,
    found: users.Credentials | None,
    *,
    right: bool,
) -> Account | None:
    """Count an attempt, and return the account if it succeeds."""
    rules, origin = lockout.Rules.of(resources.settings), login.origin
    subject = lockout.subject_of("login", login.username)
    user_id = found.account.id if found else None
    right = right and found is not None and found.account.is_active
    gate = await lockout.enter(session, rules, subject, origin.network, right=right)
    account = None
    if gate.passed and found is not None:
        account = await users.confirm(session, found.account.id, found.password_hash)
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
                await _note_end(session, origin, owner, account.id, number, Reason.REPLACED)
    scopes = granted_scopes(account.role, login.scopes)
    opened = await sessions.open_session(
        session, resources.settings, account.id, kind=login.kind, scopes=scopes, origin=origin
    )
    for surplus in opened.surplus:
        await _note_end(session, origin, account.id, account.id, surplus, Reason.TOO_MANY)
    details = {"session": opened.id, "kind": login.kind.value}
    await record(session, Event("login.succeeded", origin, account.id, account.id, details))
    return _grant(resources, account, opened, scopes)


async def _note_end(  # noqa: PLR0913, PLR0917 - whose, by whom, which and why
    session: AsyncSession, origin: Origin, user_id: int, actor_id: int, number: int, reason: Reason
) -> None:
    details = {"session": number, "reason": reason.value}
    await record(session, Event("session.ended", origin, user_id, actor_id, details))


def _grant(
    resources: Resources,
    account: Account,
    opened: sessions.Opened | sessions.Rotated,
    scopes: tuple[str, ...],
) -> Grant:
    tokens = resources.tokens
    return Grant(
        access_token=tokens.create(account.id, opened.id, scopes),
        lifetime=tokens.lifetime,
        refresh_token=opened.refresh_token,
        refresh_lifetime=opened.refresh_seconds,
        session_id=opened.id,
        scopes=scopes,
    )


async def refresh(resources: Resources, token: str, origin: Origin) -> Grant:
    """Continue a session by its refresh token, which is used up by it.

    Raises:
        TokenReuseError: when the token was used before; its session has ended by that.
        InvalidRefreshTokenError: when the token is not good.
    """
    # Ending the session of a reused token stays, although the request fails.
    async with resources.database.writing() as session:
        outcome = await sessions.rotate(
            session, resources.settings, token, resources.tokens.successors, origin
        )
        if isinstance(outcome, sessions.Rotated):
            grant = await _continue(resources, session, outcome, origin)
            if grant is not None:
                return grant
        elif isinstance(outcome, sessions.Reused) and outcome.ended:
            details = {"session": outcome.id}
            await record(session, Event("token.reused", origin, outcome.user_id, details=details))
    if isinstance(outcome, sessions.Reused):
        raise TokenReuseError
    raise InvalidRefreshTokenError


async def _continue(
    resources: Resources, session: AsyncSession, rotated: sessions.Rotated, origin: Origin
) -> Grant | None:
    account = await users.find_user(session, user_id=rotated.user_id)
    if account is None or not account.is_active:
        return None
    # The role may have changed since.
    allowed = granted_scopes(account.role, ())
    scopes = tuple(scope for scope in rotated.scopes if scope in allowed)
    details = {"session": rotated.id}
    await record(session, Event("token.refreshed", origin, account.id, account.id, details))
    return _grant(resources, account, rotated, scopes)


async def session_of(resources: Resources, token: str) -> int:
    """Return the session of a refresh token, whatever became of it.

    Raises:
        InvalidRefreshTokenError: when it is unknown.
    """
    async with resources.database.reading() as connection:
        found = await sessions.of_token(connection, token)
    if found is None:
        raise InvalidRefreshTokenError
    return found.session_id


async def log_out(
    session: AsyncSession, origin: Origin, claims: Claims | None, token: str | None
) -> bool:
    """End the session of an access token and that of a refresh token, which are usually one.

    Its tokens are worthless at once, on every worker and every host.

    Returns:
        Whether something was ended.
    """
    owners = {claims.session_id: claims.user_id} if claims else {}
    if token:
        found = await sessions.of_token(session, token)
        owners |= {found.session_id: found.user_id} if found else {}
    done = False
    for session_id, user_id in owners.items():
        if await sessions.end(session, user_id, Reason.LOGOUT, only=session_id):
            details = {"session": session_id}
            await record(session, Event("logout", origin, user_id, user_id, details))
            done = True
    return done


async def change_password(
    resources: Resources, identity: Identity, current: str, new: str, origin: Origin
) -> None:
    """Give the caller's account another password; every other session of it ends.

    Raises:
        IncorrectPasswordError: when the current password is wrong.
        WeakPasswordError: when the new one is refused.
        NotAuthenticatedError: when the account or the session ended meanwhile.
    """
    account = identity.account
    users.check_password(new, account, resources.settings, field="new_password")
    stored = await users.prove_password(resources, account, current, origin)
    password_hash = await resources.passwords.hash(new)
    async with resources.database.writing() as session:
        if await users.confirm(session, account.id, stored) is None:
            # A reset or a deactivation came between, and wins.
            raise NotAuthenticatedError
        await users.set_password_hash(session, account.id, password_hash)
        await withdraw_resets(session, account.id)
        ended = await sessions.end_all(
            session, account.id, Reason.PASSWORD_CHANGED, keep=identity.session_id
        )
        details = {"ended_sessions": ended}
        await record(session, Event("password.changed", origin, account.id, account.id, details))
        await resources.jobs.enqueue(session, TELL_PASSWORD_CHANGED, user_id=account.id)


async def list_own(resources: Resources, identity: Identity) -> list[sessions.Session]:
    """Return the caller's sessions, the one used last first."""
    return await sessions.list_sessions(resources.database, resources.settings, identity.account.id)


async def end_session(
    session: AsyncSession, identity: Identity, session_id: int, origin: Origin
) -> None:
    """End one of the caller's sessions.

    Raises:
        SessionNotFoundError: when the caller has no such session.
    """
    user_id = identity.account.id
    if not await sessions.end(session, user_id, Reason.ENDED, only=session_id):
        raise SessionNotFoundError
    await _note_end(session, origin, user_id, user_id, session_id, Reason.ENDED)
