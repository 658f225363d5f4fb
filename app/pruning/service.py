"""Taking away in batches, however much there is."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Database

# Far from the time that one statement has, and few transactions for millions of rows.
BATCH = 2000

# Takes at most so many rows away, and returns how many.
TakeSome: TypeAlias = Callable[[AsyncSession, int], Awaitable[int]]


async def until_none_is_left(database: Database, take_some: TakeSome, batch: int = BATCH) -> None:
    """Take away what there is, each batch in a transaction of its own.

    What was taken stays so when a later batch fails, so that the next attempt has less to do.
    """
    count = batch
    while count:
        async with database.writing() as session:
            count = await take_some(session, batch)
