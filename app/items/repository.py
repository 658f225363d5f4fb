"""The queries on items."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
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
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Database, Identifier, Rows, table_of
from app.items.models import Item
from app.owners import OWNERS
from app.pages import CountedPage
from app.prepared import Prepared
from app.text import like_pattern

ItemRow: TypeAlias = Row[*tuple[Any, ...]]

COLUMNS = (
    Item.id,
    Item.owner_id,
    Item.title,
    Item.description,
    Item.price,
    Item.quantity,
    Item.created_at,
    Item.updated_at,
)


# One query brings things and their owners; each of them would be a query more.
_WITH_OWNERS = select(*COLUMNS, OWNERS.c.username).join(OWNERS, OWNERS.c.id == Item.owner_id)


class _List:
    """The statements of a list of items."""

    def __init__(self, matches: ColumnElement[bool]) -> None:
        total = select(func.count()).select_from(Item).where(matches)
        self.counted = CountedPage(_WITH_OWNERS.where(matches), total, Item.id.expression)
        # It begins at an entry of the index, however many there are before, and counts nothing.
        self.following = Prepared(
            _WITH_OWNERS.where(matches, Item.id > bindparam("after", type_=Identifier))
            .order_by(Item.id)
            .limit(bindparam("limit"))
        )


_ALL = _List(true())
# A part of the title in whatever case; `%` and `_` stand for themselves, see `app.text`.
_PATTERN = func.lower(bindparam("pattern", type_=String))
_FOUND = _List(func.lower(Item.title).like(_PATTERN, escape="/"))
# It begins at an entry of the index of owners, however many items come before.
_OWNED = Prepared(
    select(*COLUMNS)
    .where(
        Item.owner_id == bindparam("owner_id", type_=Identifier),
        Item.id > bindparam("after", type_=Identifier),
    )
    .order_by(Item.owner_id, Item.id)
    .limit(bindparam("limit"))
)
_ADD = insert(table_of(Item)).returning(*COLUMNS)
_FIND = Prepared(_WITH_OWNERS.where(Item.id == bindparam("item_id")))


def _choose(search: str | None) -> tuple[_List, dict[str, Any]]:
    return (_FOUND, {"pattern": like_pattern(search)}) if search else (_ALL, {})


async def list_items(
    database: Database, skip: int, limit: int, search: str | None
) -> tuple[Rows, int]:
    """Return one page of the items with their owners, and the number of all that match."""
    statements, values = _choose(search)
    return await statements.counted.fetch(database, values, skip, limit)


async def list_following(database: Database, after: int, limit: int, search: str | None) -> Rows:
    """Return the items after one of them with their owners, oldest first."""
    statements, values = _choose(search)
    return await database.fetch(statements.following, {**values, "after": after, "limit": limit})


async def list_owned(database: Database, owner_id: int, after: int, limit: int) -> Rows:
    """Return the items of one owner after one of them, oldest first."""
    values = {"owner_id": owner_id, "after": after, "limit": limit}
    return await database.fetch(_OWNED, values)


async def find_item(database: Database, item_id: int) -> Sequence[Any] | None:
    """Return one item and the name of its owner."""
    rows = await database.fetch(_FIND, {"item_id": item_id})
    return rows[0] if rows else None


async def lock_item(session: AsyncSession, item_id: int) -> ItemRow | None:
    """Return one item and its owner, which nobody else changes before the transaction ends."""
    query = _WITH_OWNERS.where(Item.id == item_id).with_for_update(of=Item)
    return (await session.execute(query)).first()


async def add_item(session: AsyncSession, owner_id: int, values: Mapping[str, Any]) -> ItemRow:
    """Store an item."""
    return (await session.execute(_ADD, {"owner_id": owner_id, **values})).one()


async def update_item(session: AsyncSession, item_id: int, values: Mapping[str, Any]) -> ItemRow:
    """Change an item that exists."""
    statement = update(Item).where(Item.id == item_id).values(**values).returning(*COLUMNS)
    return (await session.execute(statement)).one()


async def delete_item(session: AsyncSession, item_id: int) -> None:
    """Take an item away."""
    await session.execute(delete(Item).where(Item.id == item_id))
