"""What can be done with items."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.cached import CachedReads
from app.db import Database, Rows
from app.entities import Entity
from app.errors import BadRequestError, ForbiddenError, InsufficientScopeError, NotFoundError
from app.items import repository
from app.items.repository import COLUMNS, ItemRow
from app.permissions import PERMISSIONS_OF_ROLE, Permission
from app.writing import Writing

KIND = "item"
_EXPORT_BATCH = 500
_NAMES = tuple(column.key for column in COLUMNS)
_EXPORT = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


class ItemNotFoundError(NotFoundError):
    """No item has this id."""

    code = "item_not_found"
    message = "There is no such item."


class NotOwnerError(ForbiddenError):
    """The item belongs to somebody else."""

    code = "not_owner"
    message = "This item belongs to somebody else."


class TwoPlacesError(BadRequestError):
    """A page was asked for by its number and by what is before it at the same time."""

    code = "skip_with_cursor"
    message = "Say where the page begins by skip or by cursor, not by both."


@dataclass(frozen=True)
class Page:
    """Which items are wanted.

    Attributes:
        limit: How many at most.
        skip: How many are left out before them.
        cursor: Id of the item before them, instead; 0 is before the first one.
        search: A part of their titles.
    """

    limit: int
    skip: int = 0
    cursor: int | None = None
    search: str | None = None


async def list_items(database: Database, page: Page) -> Entity:
    """Return one page of the items, oldest first, with their owners.

    Raises:
        TwoPlacesError: when the page is to begin at two places.
    """
    if page.cursor is None:
        rows, total = await repository.list_items(database, page.skip, page.limit, page.search)
        more = page.skip + len(rows) < total
        return Entity.of(_page(rows, page, total, more=more))
    if page.skip:
        raise TwoPlacesError
    # One more than wanted tells whether there are more.
    rows = await repository.list_following(database, page.cursor, page.limit + 1, page.search)
    more = len(rows) > page.limit
    return Entity.of(_page(rows[: page.limit], page, None, more=more))


async def get_item(database: Database, cached: CachedReads, item_id: int) -> Entity:
    """Return one item.

    Raises:
        ItemNotFoundError: when there is none.
    """

    async def load() -> Entity | None:
        item = await repository.find_item(database, item_id)
        return None if item is None else Entity.of(_content(item))

    entity = await cached.read(KIND, item_id, load)
    if entity is None:
        raise ItemNotFoundError
    return entity


async def export_items(database: Database) -> AsyncIterator[bytes]:
    """Return all items, a line of JSON each (https://github.com/ndjson/ndjson-spec), in pieces.

    The first piece is there when this returns. Between two pieces no connection is held, so that a
    slow reader keeps nobody waiting; items that come or go meanwhile are in it or not.
    """
    rows = await repository.list_following(database, 0, _EXPORT_BATCH, None)

    async def pieces() -> AsyncIterator[bytes]:
        batch = rows
        while batch:
            lines = (orjson.dumps(_content(row), option=_EXPORT) for row in batch)
            yield b"".join(lines)
            if len(batch) < _EXPORT_BATCH:
                return
            after = batch[-1][0]
            batch = await repository.list_following(database, after, _EXPORT_BATCH, None)

    return pieces()


async def list_owned(
    database: Database, owner_id: int, after: int, limit: int
) -> list[dict[str, Any]]:
    """Return the items of one owner whose ids are greater, in their order, at most so many."""
    rows = await repository.list_owned(database, owner_id, after, limit)
    return [dict(zip(_NAMES, row, strict=True)) for row in rows]


async def add_item(by: Writing, values: Mapping[str, Any]) -> Entity:
    """Store an item that belongs to the account."""
    account = by.identity.account
    item = await repository.add_item(by.session, account.id, values)
    return Entity.of(_content((*item, account.username)))


async def change_item(by: Writing, item_id: int, values: Mapping[str, Any]) -> Entity:
    """Give an item new values.

    Raises:
        ItemNotFoundError: when there is none.
        NotOwnerError: when it belongs to somebody else, and the account is no moderator.
        PreconditionFailedError: when it is not as the caller expects it.
    """
    item = await _lock(by, item_id)
    if not _owns(by, item) and not _may_moderate(by):
        raise NotOwnerError
    before = Entity.of(_content(item))
    by.precondition.check(before)
    if not values:
        return before
    await by.cached.invalidate(by.session, KIND, item_id)
    changed = await repository.update_item(by.session, item_id, values)
    return Entity.of(_content((*changed, item.username)))


async def delete_item(by: Writing, item_id: int) -> None:
    """Take an item away: one's own with `items:write`, anybody's with `items:delete`.

    Raises:
        ItemNotFoundError: when there is none.
        NotOwnerError: when it belongs to somebody else, and the account is no moderator.
        InsufficientScopeError: when the token does not allow it.
        PreconditionFailedError: when it is not as the caller expects it.
    """
    item = await _lock(by, item_id)
    own, scopes = _owns(by, item), by.identity.scopes
    if not own and not _may_moderate(by):
        raise NotOwnerError
    if "items:delete" not in scopes and not (own and "items:write" in scopes):
        raise InsufficientScopeError("items:write" if own else "items:delete")
    by.precondition.check(Entity.of(_content(item)))
    await by.cached.invalidate(by.session, KIND, item_id)
    await repository.delete_item(by.session, item_id)


def _content(item: Sequence[Any]) -> dict[str, Any]:
    """Return what clients see of an item, of a row with its columns and the name of its owner.

    It is written from columns, without a model in between, because it is asked for most.
    """
    content = dict(zip(_NAMES, item, strict=False))
    content["price"] = str(content["price"])
    content["owner"] = {"id": content["owner_id"], "username": item[len(_NAMES)]}
    return content


def _page(rows: Rows, page: Page, total: int | None, *, more: bool) -> dict[str, Any]:
    return {
        "items": [_content(row) for row in rows],
        "total": total,
        "skip": page.skip,
        "limit": page.limit,
        "next_cursor": rows[-1][0] if more and rows else None,
    }


def _owns(by: Writing, item: ItemRow) -> bool:
    return bool(item.owner_id == by.identity.account.id)


def _may_moderate(by: Writing) -> bool:
    return Permission.MODERATE_ITEMS in PERMISSIONS_OF_ROLE[by.identity.account.role]


async def _lock(by: Writing, item_id: int) -> ItemRow:
    item = await repository.lock_item(by.session, item_id)
    if item is None:
        raise ItemNotFoundError
    return item
