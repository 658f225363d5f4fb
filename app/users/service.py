"""What can be done with accounts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.accounts import Account, Identity, Origin
from app.audit import Event, record
from app.errors import (
    ConflictError,
    ForbiddenError,
    NotAuthenticatedError,
    NotFoundError,
    SessionNeededError,
)
from app.jobs.service import Jobs
from app.passwords import Passwords
from app.permissions import Role
from app.sessions import goes_on
from app.settings import Settings
from app.users import repository
from app.users.password_rules import check_password
from app.users.schemas import ProfileChange, Registration

VERIFY_EMAIL = "recovery.send_verification"
EMAIL_CHANGED = "recovery.tell_email_changed"


class UsernameTakenError(ConflictError):
    """Another account has this name."""

    code = "username_taken"
    message = "This username is taken."


class EmailTakenError(ConflictError):
    """Another account has this address."""

    code = "email_taken"
    message = "This email address belongs to another account."


class UserNotFoundError(NotFoundError):
    """No account has this id."""

    code = "user_not_found"
    message = "There is no such account."


class ReauthenticationNeededError(ForbiddenError):
    """What is asked for could take over the account, and the login was long ago."""

    code = "reauthentication_needed"
    message = "Changing the address needs current_password, or a login of a few minutes ago."


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account and what proves that somebody owns it."""

    account: Account
    password_hash: str


class MakesAccounts(Protocol):
    """What making an account takes of a process; the console has less than a worker."""

    @property
    def settings(self) -> Settings:
        """The settings."""

    @property
    def passwords(self) -> Passwords:
        """What hashes the password."""

    @property
    def jobs(self) -> Jobs:
        """What takes the mail."""


def _refuse(field: str) -> ConflictError:
    return UsernameTakenError() if field == "username" else EmailTakenError()


@dataclass(frozen=True, slots=True)
class Made:
    """How an account comes to be.

    Attributes:
        origin: where the request came from.
        role: of the account.
        verified: whether somebody vouches for the address; otherwise a mail asks for it.
        details: of the audit event.
    """

    origin: Origin
    role: Role = Role.USER
    verified: bool = False
    details: Mapping[str, str] = field(default_factory=dict)


async def register(
    resources: MakesAccounts, session: AsyncSession, registration: Registration, made: Made
) -> Account:
    """Make an account.

    Raises:
        WeakPasswordError: when the password is refused.
        UsernameTakenError: when another account has the name.
        EmailTakenError: when another account has the address.
    """
    username, email = registration.username, registration.email
    check_password(registration.password, registration, resources.settings)
    # Before the first query, so that no connection is held while the password waits its turn.
    password_hash = await resources.passwords.hash(registration.password)
    taken = await repository.taken_fields(session, username, email)
    if taken:
        raise _refuse(max(taken))
    values = {
        "username": username,
        "email": email,
        "full_name": registration.full_name,
        "password_hash": password_hash,
        "role": made.role.value,
        "email_verified_at": datetime.now(UTC) if made.verified else None,
    }
    added = await repository.add(session, values)
    if isinstance(added, str):
        raise _refuse(added)
    actor_id = None if made.verified else added.id
    event = Event("account.registered", made.origin, added.id, actor_id, made.details)
    await record(session, event)
    if not made.verified:
        await resources.jobs.enqueue(session, VERIFY_EMAIL, user_id=added.id)
    return added


async def change_profile(
    resources: MakesAccounts,
    session: AsyncSession,
    identity: Identity,
    change: ProfileChange,
    origin: Origin,
) -> Account:
    """Change the caller's name and address; a new address has to be verified again.

    The current password, if the change has it, has been proved already.

    Raises:
        EmailTakenError: when another account has the address.
        SessionNeededError: when an API key asks for another address.
        ReauthenticationNeededError: when the address changes and nobody has proved to be the owner.
        NotAuthenticatedError: when the caller's session has ended meanwhile.
    """
    account = identity.account
    values: dict[str, Any] = {}
    if change.full_name is not None:
        values["full_name"] = change.full_name
    moves = change.email is not None and change.email != account.email
    if moves:
        if change.current_password is None:
            _check_fresh(identity, resources.settings)
        await hold(session, identity)
        values |= {"email": change.email, "email_verified_at": None}
    if not values:
        return account
    changed = await repository.change(session, account.id, values)
    if isinstance(changed, str):
        raise _refuse(changed)
    if moves:
        event = Event("account.email_changed", origin, account.id, account.id)
        await note_new_email(resources.jobs, session, account.email, changed, event)
    return changed


async def note_new_email(
    jobs: Jobs, session: AsyncSession, former: str, changed: Account, event: Event
) -> None:
    """Make the mails to the former address of an account worthless, and write to both."""
    await repository.expire_mail_tokens(session, changed.id)
    await record(session, event)
    addresses = {"old": former, "new": changed.email}
    await jobs.enqueue(session, EMAIL_CHANGED, user_id=changed.id, **addresses)
    await jobs.enqueue(session, VERIFY_EMAIL, user_id=changed.id)


async def hold(session: AsyncSession, identity: Identity) -> Credentials:
    """Return the caller's account as it is now, kept until the transaction ends.

    What the owner has decided before, such as a password reset, wins.

    Raises:
        NotAuthenticatedError: when the account or the caller's session has ended meanwhile.
    """
    found = await repository.lock(session, identity.account.id)
    if (
        found is None
        or not found[0].is_active
        or identity.session_id is None
        or not await goes_on(session, identity.session_id)
    ):
        raise NotAuthenticatedError
    return Credentials(*found)


def _check_fresh(identity: Identity, settings: Settings) -> None:
    if identity.authenticated_at is None:
        raise SessionNeededError
    age = datetime.now(UTC) - identity.authenticated_at
    if age >= timedelta(seconds=settings.reauthentication_window):
        raise ReauthenticationNeededError


async def find_credentials(
    connection: AsyncConnection | AsyncSession, username: str
) -> Credentials | None:
    """Return the account of this name with its password hash, for a login."""
    # PostgreSQL's text cannot hold NUL, so no account has such a name.
    if "\x00" in username:
        return None
    found = await repository.find_by_username(connection, username)
    return Credentials(*found) if found else None


async def confirm(session: AsyncSession, user_id: int, verified_hash: str) -> Account | None:
    """Return an active account whose password is still the one that was verified.

    It is locked until the transaction ends: a password reset or a deactivation that came between
    wins, and one that comes later sees what was done here.
    """
    found = await repository.lock(session, user_id)
    if found is None or not found[0].is_active or found[1] != verified_hash:
        return None
    return found[0]


async def find_user(
    connection: AsyncConnection | AsyncSession,
    *,
    user_id: int | None = None,
    email: str = "",
    username: str = "",
) -> Account | None:
    """Return an account by its id, its address or its name."""
    if user_id is not None:
        return await repository.find(connection, user_id)
    if email:
        return await repository.find_by_email(connection, email)
    found = await find_credentials(connection, username)
    return found.account if found else None


async def lock_user(session: AsyncSession, user_id: int) -> Credentials:
    """Return an account, which nobody else changes before the transaction ends.

    Raises:
        UserNotFoundError: when there is none.
    """
    found = await repository.lock(session, user_id)
    if found is None:
        raise UserNotFoundError
    return Credentials(*found)


async def set_password_hash(session: AsyncSession, user_id: int, password_hash: str) -> None:
    """Store another hash."""
    await repository.set_password_hash(session, user_id, password_hash)


async def mark_verified(session: AsyncSession, user_id: int) -> Account:
    """Note that the owner of an account reads the mails to its address."""
    changed = await repository.change(session, user_id, {"email_verified_at": datetime.now(UTC)})
    # The time has no index that another account could be in.
    assert isinstance(changed, Account)  # noqa: S101
    return changed
