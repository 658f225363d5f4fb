"""The queries on files."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import (
    BigInteger,
    Row,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Database, Rows
from app.files.models import File
from app.pages import CountedPage
from app.prepared import Prepared

FileRow: TypeAlias = Row[*tuple[Any, ...]]

COLUMNS = (
    File.id,
    File.owner_id,
    File.stored_as,
    File.filename,
    File.content_type,
    File.size,
    File.sha256,
    File.created_at,
)

_own = File.owner_id == bindparam("owner_id")
_LIST = CountedPage(
    select(*COLUMNS).where(_own),
    select(func.count()).select_from(File).where(_own),
    File.id.expression,
)
_FIND = Prepared(select(*COLUMNS).where(_own, File.id == bindparam("file_id")))
# The sum of bigints is a numeric.
_SUM = cast(func.coalesce(func.sum(File.size), 0), BigInteger)
_USED = Prepared(select(_SUM, func.count()).where(_own))


class Used(NamedTuple):
    """How many bytes the files of an account have together, and how many files those are."""

    size: int
    files: int


async def list_files(database: Database, owner_id: int, skip: int, limit: int) -> tuple[Rows, int]:
    """Return one page of an account's files, oldest first, and the number of all."""
    return await _LIST.fetch(database, {"owner_id": owner_id}, skip, limit)


async def find_file(database: Database, owner_id: int, file_id: int) -> Sequence[Any] | None:
    """Return one file of an account."""
    rows = await database.fetch(_FIND, {"owner_id": owner_id, "file_id": file_id})
    return rows[0] if rows else None


async def used(database: Database, owner_id: int) -> Used:
    """Return how much of the store an account has."""
    rows = await database.fetch(_USED, {"owner_id": owner_id})
    return Used(*rows[0])


async def used_under_lock(session: AsyncSession, owner_id: int) -> Used:
    """Return how much of the store an account has, which is locked."""
    has = select(_SUM, func.count()).where(File.owner_id == owner_id)
    return Used(*(await session.execute(has)).one())


async def add_file(session: AsyncSession, values: Mapping[str, Any]) -> FileRow:
    """Record a file."""
    return (await session.execute(insert(File).values(**values).returning(*COLUMNS))).one()


async def delete_file(session: AsyncSession, owner_id: int, file_id: int) -> str | None:
    """Forget a file of an account; return what it is stored as."""
    statement = (
        delete(File).where(File.owner_id == owner_id, File.id == file_id).returning(File.stored_as)
    )
    stored_as: str | None = (await session.execute(statement)).scalar_one_or_none()
    return stored_as


async def recorded(database: Database, names: Sequence[str]) -> set[str]:
    """Return those of the names that files are stored as."""
    async with database.reading() as connection:
        query = select(File.stored_as).where(File.stored_as.in_(names))
        return set((await connection.execute(query)).scalars())
