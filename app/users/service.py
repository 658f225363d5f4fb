"""What can be done with accounts."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.accounts import Account
from app.errors import ConflictError
from app.passwords import Passwords
from app.users import repository
from app.users.password_rules import check_password
from app.users.schemas import Registration


class UsernameTakenError(ConflictError):
    """Another account has this name."""

    code = "username_taken"
    message = "This username is taken."


class EmailTakenError(ConflictError):
    """Another account has this address."""

    code = "email_taken"
    message = "This email address belongs to another account."


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account and what proves that somebody owns it."""

    account: Account
    password_hash: str


def _refuse(field: str) -> ConflictError:
    return UsernameTakenError() if field == "username" else EmailTakenError()


async def register(
    session: AsyncSession,
    passwords: Passwords,
    registration: Registration,
    *,
    require_classes: bool,
) -> Account:
    """Make an account.

    Raises:
        WeakPasswordError: when the password is refused.
        UsernameTakenError: when another account has the name.
        EmailTakenError: when another account has the address.
    """
    username, email = registration.username, registration.email.lower()
    check_password(registration.password, username, email, require_classes=require_classes)
    # Before the first query, so that no connection is held while the password waits its turn.
    password_hash = await passwords.hash(registration.password)
    taken = await repository.taken_fields(session, username, email)
    if taken:
        raise _refuse(max(taken))
    added = await repository.add(
        session,
        {
            "username": username,
            "email": email,
            "full_name": registration.full_name,
            "password_hash": password_hash,
        },
    )
    if isinstance(added, str):
        raise _refuse(added)
    return added


async def find_credentials(connection: AsyncConnection, username: str) -> Credentials | None:
    """Return the account of this name with its password hash, for a login."""
    # PostgreSQL's text cannot hold NUL, so no account has such a name.
    if "\x00" in username:
        return None
    found = await repository.find_by_username(connection, username)
    return Credentials(*found) if found else None


async def replace_password_hash(session: AsyncSession, user_id: int, password_hash: str) -> None:
    """Store another hash of the same password, made with newer parameters."""
    await repository.set_password_hash(session, user_id, password_hash)
