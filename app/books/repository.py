"""The queries on books."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Executable,
    Row,
    String,
    bindparam,
    delete,
    func,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.books.models import ISBN_INDEX, Book
from app.db import Database, Rows, table_of
from app.pages import CountedPage
from app.prepared import Prepared
from app.text import like_pattern

BookRow: TypeAlias = Row[*tuple[Any, ...]]

COLUMNS = (
    Book.id,
    Book.owner_id,
    Book.title,
    Book.author,
    Book.isbn,
    Book.price,
    Book.description,
    Book.created_at,
    Book.updated_at,
)


class IsbnTakenError(LookupError):
    """Another book has this ISBN."""


def _listed(matches: ColumnElement[bool]) -> CountedPage:
    total = select(func.count()).select_from(Book).where(matches)
    return CountedPage(select(*COLUMNS).where(matches), total, Book.id.expression)


_ALL = _listed(true())
_PATTERN = func.lower(bindparam("pattern", type_=String))
_BY_AUTHOR = _listed(func.lower(Book.author).like(_PATTERN, escape="/"))
_ADD = insert(table_of(Book)).returning(*COLUMNS)
_FIND = Prepared(select(*COLUMNS).where(Book.id == bindparam("book_id")))


async def list_books(
    database: Database, skip: int, limit: int, author: str | None
) -> tuple[Rows, int]:
    """Return one page of the books, oldest first, and the number of all that match."""
    if not author:
        return await _ALL.fetch(database, {}, skip, limit)
    return await _BY_AUTHOR.fetch(database, {"pattern": like_pattern(author)}, skip, limit)


async def find_book(database: Database, book_id: int) -> Sequence[Any] | None:
    """Return one book."""
    rows = await database.fetch(_FIND, {"book_id": book_id})
    return rows[0] if rows else None


async def lock_book(session: AsyncSession, book_id: int) -> BookRow | None:
    """Return one book, which nobody else changes before the transaction ends."""
    query = select(*COLUMNS).where(Book.id == book_id).with_for_update()
    return (await session.execute(query)).first()


async def add_book(session: AsyncSession, owner_id: int, values: Mapping[str, Any]) -> BookRow:
    """Store a book.

    Raises:
        IsbnTakenError: when another book has its ISBN.
    """
    return await _written(session, _ADD, {"owner_id": owner_id, **values})


async def update_book(session: AsyncSession, book_id: int, values: Mapping[str, Any]) -> BookRow:
    """Change a book that exists.

    Raises:
        IsbnTakenError: when another book has its new ISBN.
    """
    statement = update(Book).where(Book.id == book_id).values(**values).returning(*COLUMNS)
    return await _written(session, statement)


async def delete_book(session: AsyncSession, book_id: int) -> None:
    """Take a book away."""
    await session.execute(delete(Book).where(Book.id == book_id))


async def _written(
    session: AsyncSession, statement: Executable, values: Mapping[str, Any] | None = None
) -> BookRow:
    try:
        row: BookRow = (await session.execute(statement, values)).one()
    except IntegrityError as error:
        # PostgreSQL names the index, SQLite the column.
        if ISBN_INDEX in str(error.orig) or "books.isbn" in str(error.orig):
            raise IsbnTakenError from error
        raise
    return row
