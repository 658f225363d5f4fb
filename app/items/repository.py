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

from app.db import Database
from app.items.models import Item
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


class _Page:
    """The two statements of a list of items, built once, because it is asked for most."""

    def __init__(self, matches: ColumnElement[bool]) -> None:
        self.total = select(func.count()).select_from(Item).where(matches)
        self.page = (
            select(*COLUMNS, self.total.scalar_subquery().label("total"))
            .where(matches)
            .order_by(Item.id)
            .offset(bindparam("skip"))
            .limit(bindparam("limit"))
        )


_ALL = _Page(true())
# A part of the title in whatever case; `%` and `_` stand for themselves, see `app.text`.
_FOUND = _Page(func.lower(Item.title).like(bindparam("pattern", type_=String), escape="/"))
_FIND = select(*COLUMNS).where(Item.id == bindparam("item_id"))


async def list_items(
    database: Database, skip: int, limit: int, search: str | None
) -> tuple[Sequence[ItemRow], int]:
    """Return one page of the items, oldest first, and the number of all that match."""
    statements, values = (_FOUND, {"pattern": like_pattern(search)}) if search else (_ALL, {})
    rows = await database.fetch(statements.page, {**values, "skip": skip, "limit": limit})
    if rows or not skip:
        return rows, rows[0].total if rows else 0
    # Past the last page there is no row to carry the total.
    return rows, (await database.fetch(statements.total, values))[0][0]


async def find_item(database: Database, item_id: int) -> ItemRow | None:
    """Return one item."""
    rows = await database.fetch(_FIND, {"item_id": item_id})
    return rows[0] if rows else None


async def lock_item(session: AsyncSession, item_id: int) -> ItemRow | None:
    """Return one item, which nobody else changes before the transaction ends."""
    query = select(*COLUMNS).where(Item.id == item_id).with_for_update()
    return (await session.execute(query)).first()


async def add_item(session: AsyncSession, owner_id: int, values: Mapping[str, Any]) -> ItemRow:
    """Store an item."""
    statement = insert(Item).values(owner_id=owner_id, **values).returning(*COLUMNS)
    return (await session.execute(statement)).one()


async def update_item(session: AsyncSession, item_id: int, values: Mapping[str, Any]) -> ItemRow:
    """Change an item that exists."""
    statement = update(Item).where(Item.id == item_id).values(**values).returning(*COLUMNS)
    return (await session.execute(statement)).one()


async def delete_item(session: AsyncSession, item_id: int) -> None:
    """Take an item away."""
    await session.execute(delete(Item).where(Item.id == item_id))
