"""Verifying addresses and resetting passwords by mail."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from app import keys, lockout, sessions, users
from app.accounts import Account, Origin
from app.audit import Event, record
from app.db import Database
from app.errors import BadRequestError
from app.log import get_logger
from app.opaque_tokens import hash_token, new_token
from app.owners import lock_account
from app.pruning import BATCH, until_none_is_left
from app.recovery import repository
from app.resources import Resources
from app.sessions import Reason
from app.settings import Settings

SEND_VERIFICATION = users.VERIFY_EMAIL
SEND_RESET = "recovery.send_password_reset"
TELL_PASSWORD_CHANGED = "recovery.tell_password_changed"  # noqa: S105 - a name

_PREFIX = "hmt_"
# One account gets no more mails of a kind than these in an hour, whoever asks for them, or while
# their links are good, where that is shorter: who gets no other has a good one.
_MAILS = 5
_MAILS_SECONDS = 3600


class Purpose(StrEnum):
    """What a token is for."""

    VERIFY = "verify_email"
    RESET = "password_reset"


class InvalidMailTokenError(BadRequestError):
    """A token that is unknown, used, too old, or for an address that is no longer the account's."""

    code = "invalid_token"
    message = "This link is used up or too old: ask for a new one."


async def request_verification(resources: Resources, session: AsyncSession, user: Account) -> None:
    """Send a mail that asks to verify the address, if that is still to be done."""
    if not user.email_verified:
        await resources.jobs.enqueue(session, SEND_VERIFICATION, user_id=user.id)


async def request_reset(
    resources: Resources, session: AsyncSession, email: str, origin: Origin
) -> None:
    """Send a mail for a new password, if there is such an account.

    Whether there is one, the worker finds out: this does the same for every address.
    """
    await resources.jobs.enqueue(session, SEND_RESET, email=email)
    await record(session, Event("password.reset_requested", origin))


async def make_token(
    session: AsyncSession, settings: Settings, account: Account, purpose: Purpose
) -> str | None:
    """Return a new token for an account's mail; nothing when it has had enough mails.

    It counts as sent until `note_unsent`: a worker that is killed may have sent it.
    """
    # Jobs that come at the same time count one after the other.
    await lock_account(session, account.id)
    now = datetime.now(UTC)
    seconds = (
        settings.verification_lifetime
        if purpose is Purpose.VERIFY
        else settings.password_reset_lifetime
    )
    since = now - timedelta(seconds=min(seconds, _MAILS_SECONDS))
    if await repository.count_since(session, account.id, purpose, since) >= _MAILS:
        message = "A mail was left out: its account has just had as many as it gets."
        get_logger().info("mail.left_out", message=message)
        return None
    token = new_token(_PREFIX)
    await repository.add(
        session,
        {
            "user_id": account.id,
            "purpose": purpose.value,
            "token_hash": hash_token(token),
            "email": account.email,
            "created_at": now,
            "expires_at": now + timedelta(seconds=seconds),
        },
    )
    return token


async def note_unsent(session: AsyncSession, token: str) -> None:
    """Let the mail with a token not count, because the mail server did not take it.

    The token stays good: where the connection was lost, the mail may have come all the same.
    """
    await repository.mark_failed(session, hash_token(token), datetime.now(UTC))


async def verify_email(session: AsyncSession, token: str, origin: Origin) -> Account:
    """Note that the owner of an account reads the mails to its address.

    Raises:
        InvalidMailTokenError: when the token is not good, or not for the account's address.
    """
    now, token_hash = datetime.now(UTC), hash_token(token)
    found = await repository.find(session, token_hash, Purpose.VERIFY, now)
    if found is None:
        raise InvalidMailTokenError
    # The account before its tokens, in whatever takes both: else two would wait for each other.
    user_id = found.user_id
    account = (await users.lock_user(session, user_id)).account
    taken = await repository.take(session, token_hash, Purpose.VERIFY, now)
    if taken is None or account.email != taken.email or not account.is_active:
        raise InvalidMailTokenError
    await repository.withdraw(session, user_id, Purpose.VERIFY)
    account = await users.mark_verified(session, user_id)
    await record(session, Event("account.email_verified", origin, user_id, user_id))
    return account


async def reset_password(resources: Resources, token: str, password: str, origin: Origin) -> None:
    """Give an account another password by a token of its mail.

    Whoever knew the old password is out: all sessions end, all keys are revoked. The owner is in:
    the account is unlocked, and the client that has the mail is known to the lockout.

    Raises:
        InvalidMailTokenError: when the token is not good.
        WeakPasswordError: when the password is refused; the token stays good.
    """
    now = datetime.now(UTC)
    token_hash = hash_token(token)
    async with resources.database.reading() as connection:
        found = await repository.find(connection, token_hash, Purpose.RESET, now)
        account = found and await users.find_user(connection, user_id=found.user_id)
    if not found or not account:
        raise InvalidMailTokenError
    users.check_password(password, account, resources.settings, field="new_password")
    password_hash = await resources.passwords.hash(password)
    async with resources.database.writing() as session:
        await _take_over(resources, session, account, token_hash, password_hash, origin)


async def _take_over(  # noqa: PLR0913, PLR0917 - whose, by what, from where
    resources: Resources,
    session: AsyncSession,
    owned: Account,
    token_hash: bytes,
    password_hash: str,
    origin: Origin,
) -> None:
    """Put the account into the hands of whoever reads its mail, and of nobody else.

    Raises:
        InvalidMailTokenError: when the token is not good any more.
    """
    # First, as at a login: two that take the same locks in another order wait for each other.
    rules = lockout.Rules.of(resources.settings)
    subject = lockout.subject_of("login", owned.username)
    unlocked = await lockout.forgive(session, rules, subject, origin.network)
    unlocked |= await users.unlock_proof(session, owned)
    account = (await users.lock_user(session, owned.id)).account
    taken = await repository.take(session, token_hash, Purpose.RESET, datetime.now(UTC))
    if taken is None or account.email != taken.email or not account.is_active:
        raise InvalidMailTokenError
    await users.set_password_hash(session, account.id, password_hash)
    await withdraw_resets(session, account.id)
    await users.mark_verified(session, account.id)
    await sessions.end_all(session, account.id, Reason.PASSWORD_RESET)
    await keys.revoke_all(session, account.id, origin, actor_id=account.id)
    await record(session, Event("password.reset", origin, account.id, account.id))
    if unlocked:
        await record(session, Event("account.unlocked", origin, account.id, account.id))
    await resources.jobs.enqueue(session, TELL_PASSWORD_CHANGED, user_id=account.id)


async def withdraw_resets(session: AsyncSession, user_id: int) -> None:
    """Make the mails for a new password worthless, because it was changed meanwhile."""
    await repository.withdraw(session, user_id, Purpose.RESET)


async def clean_up(database: Database, batch: int = BATCH) -> None:
    """Forget what has expired."""
    forget = partial(repository.delete_expired, now=datetime.now(UTC))
    await until_none_is_left(database, forget, batch)
