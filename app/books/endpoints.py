"""The library over HTTP."""

from typing import Annotated

from fastapi import Query, Request, Response

from app.access import anyone
from app.books import service
from app.books.schemas import BookInput, BookPage, BookPatch, BookView
from app.conditional import NOT_MODIFIED, answer, written
from app.dependencies import WorkerResources
from app.rate_limits import limited
from app.routing import API, Identifier, Limit, Skip, errors, router_of
from app.text import Search
from app.writers import Changer, Creator

router = router_of(f"{API}/books", "books")


@router.get("", response_model=BookPage, dependencies=[anyone()], responses=NOT_MODIFIED)
@limited("search", asking="author")
async def list_books(
    request: Request,
    resources: WorkerResources,
    skip: Skip = 0,
    limit: Limit = 20,
    author: Annotated[Search | None, Query()] = None,
) -> Response:
    """Return one page of the books; `author` finds a part of the author's name."""
    return answer(request, await service.list_books(resources.database, skip, limit, author))


@router.get(
    "/{book_id}",
    response_model=BookView,
    dependencies=[anyone()],
    responses={**errors(404), **NOT_MODIFIED},
)
async def read_book(request: Request, resources: WorkerResources, book_id: Identifier) -> Response:
    """Return one book."""
    return answer(request, await service.get_book(resources.database, resources.cached, book_id))


@router.post("", status_code=201, response_model=BookView, responses=errors(409))
async def create_book(book: BookInput, by: Creator) -> Response:
    """Store a book that belongs to the caller."""
    return written(await service.add_book(by, book.model_dump()), 201)


@router.put("/{book_id}", response_model=BookView, responses=errors(404, 409, 412))
async def change_book(book_id: Identifier, book: BookPatch, by: Changer) -> Response:
    """Give a book new values in the fields that are named, if it is the caller's own."""
    values = book.model_dump(exclude_unset=True)
    return written(await service.change_book(by, book_id, values))


@router.delete("/{book_id}", status_code=204, responses=errors(404, 412))
async def delete_book(book_id: Identifier, by: Changer) -> None:
    """Take a book of the caller's away."""
    await service.delete_book(by, book_id)
