"""Continuing a session, ending it, and giving it another password."""

from sqlalchemy.ext.asyncio import AsyncSession

from app import sessions, users
from app.accounts import Identity, Origin
from app.audit import Event, record
from app.auth.grants import Grant, grant_to, note_end
from app.errors import NotAuthenticatedError, NotFoundError
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
    return grant_to(resources, account, rotated, scopes)


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
    new_hash = await resources.passwords.hash(new)
    if await _replace_password(resources, identity, stored, new_hash, origin):
        return
    # Most often a login has renewed the hash of the same password.
    stored = await users.prove_password(resources, account, current, origin)
    if not await _replace_password(resources, identity, stored, new_hash, origin):
        raise NotAuthenticatedError


async def _replace_password(
    resources: Resources, identity: Identity, proved: str, new_hash: str, origin: Origin
) -> bool:
    """Store a new hash, unless the one that was proved is not the stored one any more.

    Raises:
        NotAuthenticatedError: when the account or the session ended meanwhile.
    """
    account = identity.account
    async with resources.database.writing() as session:
        # A reset, a deactivation, or the end of the session came between, and wins.
        if (await users.hold(session, identity)).password_hash != proved:
            return False
        await users.set_password_hash(session, account.id, new_hash)
        await withdraw_resets(session, account.id)
        ended = await sessions.end_all(
            session, account.id, Reason.PASSWORD_CHANGED, keep=identity.session_id
        )
        details = {"ended_sessions": ended}
        await record(session, Event("password.changed", origin, account.id, account.id, details))
        await resources.jobs.enqueue(session, TELL_PASSWORD_CHANGED, user_id=account.id)
    return True


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
    await note_end(session, origin, user_id, user_id, session_id, Reason.ENDED)
