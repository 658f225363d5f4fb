"""The jobs that failed for good: they stay until on-call decides, or for 30 days."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Database
from app.jobs import repository
from app.jobs.handlers import SLOW_QUEUE, USUAL_QUEUE
from app.jobs.repository import Chosen

__all__ = ["Chosen", "DeadLetter", "count", "discard", "find", "retry"]

_PAGE = 200
_STATES = ("waiting", "running", "dead")


@dataclass(frozen=True)
class DeadLetter:
    """A job that failed for good, without what it was given: that may name people.

    Attributes:
        id: Its number.
        name: Of what it does.
        queue: In which it waited.
        attempts: How often it was tried.
        error: The kind of its last error.
        asked_at: When it was stored.
        failed_at: When it failed for the last time.
        request_id: Of the request that has asked for it.
    """

    id: int
    name: str
    queue: str
    attempts: int
    error: str
    asked_at: datetime | None
    failed_at: datetime | None
    request_id: str | None


async def find(database: Database, chosen: Chosen) -> AsyncIterator[DeadLetter]:
    """Return those that are meant, oldest first."""
    after = 0
    while True:
        async with database.reading() as connection:
            rows = await repository.list_dead(connection, chosen, after, _PAGE)
        for row in rows:
            yield DeadLetter(*row)
        if len(rows) < _PAGE:
            return
        after = rows[-1].id


async def retry(session: AsyncSession, chosen: Chosen) -> int:
    """Have those that are meant done after all, with all their attempts; return how many."""
    return len(await repository.retry_dead(session, chosen))


async def discard(session: AsyncSession, chosen: Chosen) -> int:
    """Give those that are meant up; return how many."""
    return len(await repository.discard_dead(session, chosen))


async def count(database: Database) -> dict[tuple[str, str], int]:
    """Return how many jobs are waiting, running and dead in each queue."""
    counts = {(queue, state): 0 for queue in (USUAL_QUEUE, SLOW_QUEUE) for state in _STATES}
    async with database.reading() as connection:
        for queue, state, number in await repository.count(connection):
            # A newer release may have more queues than this one knows.
            if (queue, state) in counts:
                counts[queue, state] = number
    return counts
