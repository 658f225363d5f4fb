"""The queries on accounts."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select, case, column, func, insert, or_, select, table, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.accounts import Account
from app.permissions import Role
from app.text import like_pattern
from app.users.models import EMAIL_INDEX, USERNAME_INDEX, User

__all__ = ["ACCOUNT", "User", "account_of"]

ACCOUNT = (
    User.id,
    User.username,
    User.email,
    User.full_name,
    User.role,
    User.is_active,
    User.email_verified_at,
    User.created_at,
)


_MAIL_TOKENS = table("mail_tokens", column("user_id"), column("expires_at"))


def account_of(row: Sequence[Any]) -> Account:
    """Return the account of a row that begins with the columns of `ACCOUNT`."""
    role, verified = Role(row[4]), row[6] is not None
    return Account(row[0], row[1], row[2], row[3], role, row[5], verified, row[7])


def _account(row: Row[*tuple[Any, ...]] | None) -> Account | None:
    return account_of(row) if row else None


async def find(connection: AsyncConnection | AsyncSession, user_id: int) -> Account | None:
    """Return an account by its id."""
    return _account((await connection.execute(select(*ACCOUNT).where(User.id == user_id))).first())


async def lock(session: AsyncSession, user_id: int) -> tuple[Account, str] | None:
    """Return an account and its password hash, which nobody else changes meanwhile."""
    query = select(*ACCOUNT, User.password_hash).where(User.id == user_id).with_for_update()
    row = (await session.execute(query)).first()
    return (account_of(row), row[-1]) if row else None


async def lock_active(session: AsyncSession, role: str) -> int:
    """Count the active accounts of a role, which nobody else changes meanwhile."""
    query = select(User.id).where(User.role == role, User.is_active).order_by(User.id)
    return len((await session.execute(query.with_for_update())).all())


async def find_by_username(
    connection: AsyncConnection | AsyncSession, username: str
) -> tuple[Account, str] | None:
    """Return an account and its password hash by its name, in whatever case."""
    query = select(*ACCOUNT, User.password_hash).where(
        func.lower(User.username) == username.lower()
    )
    row = (await connection.execute(query)).first()
    return (account_of(row), row[-1]) if row else None


async def find_by_email(connection: AsyncConnection | AsyncSession, email: str) -> Account | None:
    """Return an account by its address, in whatever case."""
    query = select(*ACCOUNT).where(func.lower(User.email) == email.lower())
    return _account((await connection.execute(query)).first())


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
        result = await session.execute(insert(User).values(values).returning(*ACCOUNT))
    except IntegrityError as error:
        return _taken_field(error)
    return account_of(result.one())


async def change(session: AsyncSession, user_id: int, values: Mapping[str, Any]) -> Account | str:
    """Change an account that exists; return it, or the field that another account has taken."""
    statement = update(User).where(User.id == user_id).values(**values).returning(*ACCOUNT)
    try:
        result = await session.execute(statement)
    except IntegrityError as error:
        return _taken_field(error)
    return account_of(result.one())


async def expire_mail_tokens(session: AsyncSession, user_id: int) -> None:
    """Make what was sent to an address worthless; how many were sent stays known."""
    await session.execute(
        update(_MAIL_TOKENS).where(_MAIL_TOKENS.c.user_id == user_id).values(expires_at=func.now())
    )


def _taken_field(error: IntegrityError) -> str:
    for field, index in (("username", USERNAME_INDEX), ("email", EMAIL_INDEX)):
        if index in str(error.orig):
            return field
    raise error


async def password_hash(connection: AsyncConnection, user_id: int) -> str | None:
    """Return the password hash of an account."""
    query = select(User.password_hash).where(User.id == user_id)
    return (await connection.execute(query)).scalar_one_or_none()


async def set_password_hash(session: AsyncSession, user_id: int, password_hash: str) -> None:
    """Store another hash."""
    await session.execute(
        update(User).where(User.id == user_id).values(password_hash=password_hash)
    )


def _filtered(query: Select[*tuple[Any, ...]], search: str | None) -> Select[*tuple[Any, ...]]:
    if not search:
        return query
    pattern = func.lower(like_pattern(search))
    columns = (User.username, User.email, User.full_name)
    return query.where(or_(*(func.lower(one).like(pattern, escape="/") for one in columns)))


async def list_users(
    connection: AsyncConnection, skip: int, limit: int, search: str | None
) -> tuple[list[Account], int]:
    """Return one page of the accounts, oldest first, and the number of all that match."""
    total = await connection.execute(_filtered(select(func.count()).select_from(User), search))
    query = _filtered(select(*ACCOUNT), search).order_by(User.id).offset(skip).limit(limit)
    rows = (await connection.execute(query)).all()
    return [account_of(row) for row in rows], total.scalar_one()


async def count_by_role(connection: AsyncConnection) -> Sequence[Row[str, int, int]]:
    """Return for each role how many accounts there are, and how many of them are active."""
    active = func.sum(case((User.is_active, 1), else_=0))
    query = select(User.role, func.count(), active).group_by(User.role)
    rows: Sequence[Row[str, int, int]] = (await connection.execute(query)).all()
    return rows
