"""The queries on the queue, by the functions of procrastinate's schema."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

StalledRow: TypeAlias = Row[*tuple[Any, ...]]

QUEUE = "default"

_ENQUEUE = text(
    "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(CAST(:queue AS varchar), CAST(:name AS varchar),"
    " 0, NULL, NULL, CAST(:arguments AS jsonb), NULL)::procrastinate_job_to_defer_v1])"
)
# A row that another sweep has locked is its; one that has changed meanwhile is judged anew, which
# `FOR UPDATE` does under READ COMMITTED.
_REQUEUE_STALLED = text("""
WITH stalled AS (
    SELECT job.id, job.task_name, job.attempts + 1 AS attempt,
           job.attempts + 1 >= CAST(:attempts AS integer) AS is_last
    FROM procrastinate_jobs AS job
    LEFT JOIN procrastinate_workers AS worker ON worker.id = job.worker_id
        AND worker.last_heartbeat < now() - make_interval(secs => CAST(:seconds AS float8))
    WHERE job.status = 'doing' AND (job.worker_id IS NULL OR worker.id IS NOT NULL)
    FOR UPDATE OF job SKIP LOCKED
)
SELECT id, task_name, attempt, is_last, CASE
    WHEN is_last THEN procrastinate_finish_job_v1(id, 'failed', false)
    ELSE procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) END
FROM stalled
""")
_DELETE_ENDED = text("""
DELETE FROM procrastinate_jobs AS job
WHERE job.status NOT IN ('todo', 'doing') AND NOT EXISTS (
    SELECT 1 FROM procrastinate_events AS event WHERE event.job_id = job.id
    AND event.at > now() - make_interval(days => CAST(:days AS integer)))
""")


async def enqueue(session: AsyncSession, name: str, arguments: Mapping[str, Any]) -> None:
    """Store a job, which a worker sees when the session's transaction is committed."""
    values = {"queue": QUEUE, "name": name, "arguments": json.dumps(arguments)}
    await session.execute(_ENQUEUE, values)


async def requeue_stalled(
    session: AsyncSession, seconds: float, attempts: int
) -> Sequence[StalledRow]:
    """Put the jobs of workers that have ended without a word back to those that wait.

    Args:
        session: The transaction.
        seconds: How long a worker may be silent.
        attempts: A job that has been tried so often is failed instead: it may be what ends them.

    Returns:
        The id, the name, the attempt of each, and whether that was its last.
    """
    values = {"seconds": seconds, "attempts": attempts}
    return (await session.execute(_REQUEUE_STALLED, values)).all()


async def delete_ended(session: AsyncSession, days: int) -> None:
    """Take away the jobs that ended days ago and were kept, the failed ones above all."""
    await session.execute(_DELETE_ENDED, {"days": days})
