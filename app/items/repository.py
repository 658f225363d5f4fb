"""The queries on items."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Row, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.items.models import Item

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


def _matches(search: str | None) -> ColumnElement[bool]:
    """Match a part of the title in whatever case; `%` and `_` stand for themselves."""
    if not search:
        return literal(True)  # noqa: FBT003
    return func.lower(Item.title).contains(search.lower(), autoescape=True)


async def list_items(
    connection: AsyncConnection, skip: int, limit: int, search: str | None
) -> tuple[Sequence[ItemRow], int]:
    """Return one page of the items, oldest first, and the number of all that match."""
    matches = _matches(search)
    total = select(func.count()).select_from(Item).where(matches)
    page = (
        select(*COLUMNS, total.scalar_subquery().label("total"))
        .where(matches)
        .order_by(Item.id)
        .offset(skip)
        .limit(limit)
    )
    rows = (await connection.execute(page)).all()
    if rows or not skip:
        return rows, rows[0].total if rows else 0
    # Past the last page there is no row to carry the total.
    return rows, (await connection.execute(total)).scalar_one()


async def find_item(connection: AsyncConnection, item_id: int) -> ItemRow | None:
    """Return one item."""
    return (await connection.execute(select(*COLUMNS).where(Item.id == item_id))).first()


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
