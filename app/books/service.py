"""What can be done with books."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.books import repository
from app.books.repository import COLUMNS, IsbnTakenError
from app.cached import CachedReads
from app.db import Database
from app.entities import Entity
from app.errors import ConflictError, ForbiddenError, NotFoundError
from app.writing import Writing

KIND = "book"
_NAMES = tuple(column.key for column in COLUMNS)


class BookNotFoundError(NotFoundError):
    """No book has this id."""

    code = "book_not_found"
    message = "There is no such book."


class NotBookOwnerError(ForbiddenError):
    """The book belongs to somebody else."""

    code = "not_owner"
    message = "This book belongs to somebody else."


class IsbnConflictError(ConflictError):
    """Another book has this ISBN."""

    code = "isbn_taken"
    message = "Another book has this ISBN."


async def list_books(database: Database, skip: int, limit: int, author: str | None) -> Entity:
    """Return one page of the books, oldest first."""
    rows, total = await repository.list_books(database, skip, limit, author)
    books = [_content(row) for row in rows]
    return Entity.of({"books": books, "total": total, "skip": skip, "limit": limit})


async def get_book(database: Database, cached: CachedReads, book_id: int) -> Entity:
    """Return one book.

    Raises:
        BookNotFoundError: when there is none.
    """

    async def load() -> Entity | None:
        book = await repository.find_book(database, book_id)
        return None if book is None else Entity.of(_content(book))

    entity = await cached.read(KIND, book_id, load)
    if entity is None:
        raise BookNotFoundError
    return entity


async def add_book(by: Writing, values: Mapping[str, Any]) -> Entity:
    """Store a book that belongs to the account.

    Raises:
        IsbnConflictError: when another book has its ISBN.
    """
    try:
        book = await repository.add_book(by.session, by.identity.account.id, values)
    except IsbnTakenError as error:
        raise IsbnConflictError from error
    return Entity.of(_content(book))


async def change_book(by: Writing, book_id: int, values: Mapping[str, Any]) -> Entity:
    """Give a book new values.

    Raises:
        BookNotFoundError: when there is none.
        NotBookOwnerError: when it belongs to somebody else.
        PreconditionFailedError: when it is not as the caller expects it.
        IsbnConflictError: when another book has its new ISBN.
    """
    before = await _lock_own(by, book_id)
    if not values:
        return before
    await by.cached.invalidate(by.session, KIND, book_id)
    try:
        book = await repository.update_book(by.session, book_id, values)
    except IsbnTakenError as error:
        raise IsbnConflictError from error
    return Entity.of(_content(book))


async def delete_book(by: Writing, book_id: int) -> None:
    """Take a book away.

    Raises:
        BookNotFoundError: when there is none.
        NotBookOwnerError: when it belongs to somebody else.
        PreconditionFailedError: when it is not as the caller expects it.
    """
    await _lock_own(by, book_id)
    await by.cached.invalidate(by.session, KIND, book_id)
    await repository.delete_book(by.session, book_id)


async def _lock_own(by: Writing, book_id: int) -> Entity:
    """Lock a book that the caller may change, and return its state."""
    book = await repository.lock_book(by.session, book_id)
    if book is None:
        raise BookNotFoundError
    if book.owner_id != by.identity.account.id:
        raise NotBookOwnerError
    before = Entity.of(_content(book))
    by.precondition.check(before)
    return before


def _content(book: Sequence[Any]) -> dict[str, Any]:
    """Return what clients see of a book, of a row that begins with its columns."""
    content = dict(zip(_NAMES, book, strict=False))
    content["price"] = str(content["price"])
    return content
