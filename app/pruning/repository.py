"""The query that takes a bounded number of rows away."""

from sqlalchemy import ColumnElement, delete, inspect, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Base


async def delete_some(
    session: AsyncSession, table: type[Base], most: int, *conditions: ColumnElement[bool]
) -> int:
    """Delete at most so many of the rows that meet all conditions; return how many.

    Rows that somebody else has locked are left for the next time: two that take the same rows in
    different orders would wait for each other.
    """
    key = inspect(table).primary_key
    chosen = (
        select(*key).where(*conditions).limit(most).with_for_update(skip_locked=True).cte("chosen")
    )
    statement = (
        delete(table)
        .where(tuple_(*key).in_(select(*chosen.columns)))
        .returning(*key)
        .execution_options(synchronize_session=False)
    )
    return len((await session.execute(statement)).all())
