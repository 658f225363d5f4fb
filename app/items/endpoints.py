"""The catalogue over HTTP."""

import hashlib
from typing import Annotated, Any

import orjson
from fastapi import Query, Request, Response

from app.access import AnyCaller, anyone, require_scopes
from app.accounts import Identity
from app.dependencies import Transaction, WorkerResources
from app.items import service
from app.items.repository import ItemRow
from app.items.schemas import ItemInput, ItemPage, ItemPatch, ItemView
from app.rate_limits import limited
from app.routing import Identifier, Limit, Skip, errors, router_of
from app.text import Search

router = router_of("/items", "items")

ItemsWriter = Annotated[Identity, require_scopes("items:write")]
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "The client has it."}}


def _view(item: ItemRow) -> dict[str, Any]:
    return {
        "id": item.id,
        "owner_id": item.owner_id,
        "title": item.title,
        "description": item.description,
        "price": str(item.price),
        "quantity": item.quantity,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
    }


def _cached(request: Request, content: dict[str, Any]) -> Response:
    """Answer with JSON and its ETag, or with 304 when the client has just that.

    The content is written from columns, without a model in between: this is the hot path.
    """
    body = orjson.dumps(content, option=orjson.OPT_UTC_Z)
    tag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or tag in [
        candidate.strip().removeprefix("W/") for candidate in known.split(",")
    ]:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


@router.get("", response_model=ItemPage, dependencies=[anyone()], responses=NOT_MODIFIED)
@limited("search")
async def list_items(
    request: Request,
    resources: WorkerResources,
    skip: Skip = 0,
    limit: Limit = 20,
    search: Annotated[Search | None, Query()] = None,
) -> Response:
    """Return one page of the items; `search` finds a part of the title."""
    items, total = await service.list_items(resources.database, skip, limit, search)
    page = {"items": [_view(item) for item in items], "total": total, "skip": skip, "limit": limit}
    return _cached(request, page)


@router.get(
    "/{item_id}",
    response_model=ItemView,
    dependencies=[anyone()],
    responses={**errors(404), **NOT_MODIFIED},
)
async def read_item(request: Request, resources: WorkerResources, item_id: Identifier) -> Response:
    """Return one item."""
    return _cached(request, _view(await service.get_item(resources.database, item_id)))


@router.post("", status_code=201, response_model=ItemView)
async def create_item(item: ItemInput, identity: ItemsWriter, session: Transaction) -> ItemRow:
    """Store an item that belongs to the caller."""
    return await service.add_item(session, identity.account, item.model_dump())


@router.put("/{item_id}", response_model=ItemView, responses=errors(404))
async def replace_item(
    item_id: Identifier, item: ItemInput, identity: ItemsWriter, session: Transaction
) -> ItemRow:
    """Give an item new values in every field."""
    return await service.change_item(session, identity.account, item_id, item.model_dump())


@router.patch("/{item_id}", response_model=ItemView, responses=errors(404))
async def change_item(
    item_id: Identifier, item: ItemPatch, identity: ItemsWriter, session: Transaction
) -> ItemRow:
    """Give an item new values in the fields that are named."""
    values = item.model_dump(exclude_unset=True)
    return await service.change_item(session, identity.account, item_id, values)


@router.delete("/{item_id}", status_code=204, responses=errors(404))
async def delete_item(item_id: Identifier, identity: AnyCaller, session: Transaction) -> None:
    """Take an item away."""
    await service.delete_item(session, identity, item_id)
