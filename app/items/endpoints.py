"""The catalogue over HTTP."""

from functools import partial
from typing import Annotated

from fastapi import Query, Request, Response

from app.access import anyone, require_scopes
from app.accounts import LARGEST_ID, Identity
from app.conditional import NOT_MODIFIED, answer, written
from app.dependencies import WorkerResources
from app.items import service
from app.items.schemas import ItemInput, ItemPage, ItemPatch, ItemView
from app.items.service import Page
from app.rate_limits import limited
from app.routing import API, Identifier, Limit, Skip, errors, router_of
from app.streams import Stream
from app.text import Search
from app.writers import Changer, Creator, Deleter

router = router_of(f"{API}/items", "items")

NDJSON = "application/x-ndjson"
Reader = Annotated[Identity, require_scopes("items:read")]
Cursor = Annotated[
    int | None,
    Query(ge=0, le=LARGEST_ID, description="`next_cursor` of the page before; 0 for the first."),
]


@router.get(
    "", response_model=ItemPage, dependencies=[anyone()], responses={**errors(400), **NOT_MODIFIED}
)
@limited("search", asking="search")
async def list_items(  # noqa: PLR0913, PLR0917 - the parameters of one query
    request: Request,
    resources: WorkerResources,
    skip: Skip = 0,
    limit: Limit = 20,
    search: Annotated[Search | None, Query()] = None,
    cursor: Cursor = None,
) -> Response:
    """Return one page of the items; `search` finds a part of the title.

    A page by `cursor` costs the same however deep in the list it is, and has no `total`.
    """
    page = Page(limit, skip, cursor, search)
    return answer(request, await service.list_items(resources.database, page))


@router.get(
    "/export",
    response_class=Stream,
    responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}}}},
)
@limited("export")
async def export_items(identity: Reader, resources: WorkerResources) -> Stream:
    """Return all items, one line of JSON each."""
    return Stream(
        partial(service.export_items, resources.database),
        partial(resources.transfers.exporting, identity.account.id),
        {"Content-Disposition": 'attachment; filename="items.ndjson"'},
        NDJSON,
    )


@router.get(
    "/{item_id}",
    response_model=ItemView,
    dependencies=[anyone()],
    responses={**errors(404), **NOT_MODIFIED},
)
async def read_item(request: Request, resources: WorkerResources, item_id: Identifier) -> Response:
    """Return one item."""
    return answer(request, await service.get_item(resources.database, resources.cached, item_id))


@router.post("", status_code=201, response_model=ItemView)
async def create_item(item: ItemInput, by: Creator) -> Response:
    """Store an item that belongs to the caller."""
    return written(await service.add_item(by, item.model_dump()), 201)


@router.put("/{item_id}", response_model=ItemView, responses=errors(404, 412))
async def replace_item(item_id: Identifier, item: ItemInput, by: Changer) -> Response:
    """Give an item new values in every field; with `If-Match`, only if it is as expected."""
    return written(await service.change_item(by, item_id, item.model_dump()))


@router.patch("/{item_id}", response_model=ItemView, responses=errors(404, 412))
async def change_item(item_id: Identifier, item: ItemPatch, by: Changer) -> Response:
    """Give an item new values in the fields that are named."""
    values = item.model_dump(exclude_unset=True)
    return written(await service.change_item(by, item_id, values))


@router.delete("/{item_id}", status_code=204, responses=errors(404, 412))
async def delete_item(item_id: Identifier, by: Deleter) -> None:
    """Take an item away."""
    await service.delete_item(by, item_id)
