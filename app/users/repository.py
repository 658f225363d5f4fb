"""The queries on accounts."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, bindparam, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.accounts import Account
from app.permissions import Role
from app.users.models import EMAIL_INDEX, USERNAME_INDEX, User

_ACCOUNT = (
    User.id,
    User.username,
    User.email,
    User.full_name,
    User.role,
    User.is_active,
    User.created_at,
)
# Built once: every authenticated request runs it.
_FIND_BY_ID = select(*_ACCOUNT).where(User.id == bindparam("user_id"))


def _account(row: Row[*tuple[Any, ...]]) -> Account:
    return Account(row[0], row[1], row[2], row[3], Role(row[4]), row[5], row[6])


async def find_account(connection: AsyncConnection, user_id: int) -> Account | None:
    """Return an account by its id."""
    row = (await connection.execute(_FIND_BY_ID, {"user_id": user_id})).first()
    return _account(row) if row else None


async def find_by_username(
    connection: AsyncConnection, username: str
) -> tuple[Account, str] | None:
    """Return an account and its password hash by its name, in whatever case."""
    query = select(*_ACCOUNT, User.password_hash).where(
        func.lower(User.username) == username.lower()
    )
    row = (await connection.execute(query)).first()
    return (_account(row), row[-1]) if row else None


async def taken_fields(session: AsyncSession, username: str, email: str) -> set[str]:
    """Return which of `username` and `email` another account has."""
    query = select(func.lower(User.username), func.lower(User.email)).where(
        or_(func.lower(User.username) == username.lower(), func.lower(User.email) == email.lower())
    )
    taken = set()
    for name, address in (await session.execute(query)).all():
        if name == username.lower():
            taken.add("username")
        if address == email.lower():
            taken.add("email")
    return taken


async def add(session: AsyncSession, values: Mapping[str, Any]) -> Account | str:
    """Store an account; return it, or the field that an account made meanwhile has taken."""
    try:
        result = await session.execute(insert(User).values(values).returning(*_ACCOUNT))
    except IntegrityError as error:
        for field, index in (("username", USERNAME_INDEX), ("email", EMAIL_INDEX)):
            if index in str(error.orig):
                return field
        raise
    return _account(result.one())


async def set_password_hash(session: AsyncSession, user_id: int, password_hash: str) -> None:
    """Store another hash of the same password."""
    await session.execute(
        update(User).where(User.id == user_id).values(password_hash=password_hash)
    )
