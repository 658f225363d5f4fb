"""The queries on the queue, by the functions of procrastinate's schema."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

JobRow: TypeAlias = Row[*tuple[Any, ...]]

_ENQUEUE = text(
    "SELECT (procrastinate_defer_jobs_v1(ARRAY[ROW(CAST(:queue AS varchar), CAST(:name AS varchar),"
    " CAST(:priority AS integer), NULL, NULL, CAST(:arguments AS jsonb), NULL)"
    "::procrastinate_job_to_defer_v1]))[1]"
)
# A row that another sweep has locked is its; one that has changed meanwhile is judged anew, which
# `FOR UPDATE` does under READ COMMITTED.
_REQUEUE_STALLED = text("""
WITH stalled AS (
    SELECT job.id, job.task_name, job.attempts + 1 AS attempt,
           job.attempts + 1 >= coalesce(
               CAST(CAST(:own_attempts AS jsonb) ->> job.task_name AS integer),
               CAST(:attempts AS integer)) AS is_last,
           job.args ->> '_request_id' AS request_id
    FROM procrastinate_jobs AS job
    LEFT JOIN procrastinate_workers AS worker ON worker.id = job.worker_id
        AND worker.last_heartbeat < now() - make_interval(secs => CAST(:seconds AS float8))
    WHERE job.status = 'doing' AND (job.worker_id IS NULL OR worker.id IS NOT NULL)
    FOR UPDATE OF job SKIP LOCKED
)
SELECT id, task_name, attempt, is_last, request_id, CASE
    WHEN is_last THEN procrastinate_finish_job_v1(id, 'failed', false)
    ELSE procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) END
FROM stalled
""")
# One that is just being retried is locked, and is left alone.
_DELETE_ENDED = text("""
WITH chosen AS (
    SELECT id FROM procrastinate_jobs AS job
    WHERE job.status NOT IN ('todo', 'doing') AND NOT EXISTS (
        SELECT 1 FROM procrastinate_events AS event WHERE event.job_id = job.id
        AND event.at > now() - make_interval(days => CAST(:days AS integer)))
    LIMIT :most FOR UPDATE SKIP LOCKED
)
DELETE FROM procrastinate_jobs WHERE id IN (SELECT id FROM chosen) RETURNING id
""")
_FORGET_FAILURES = text("""
WITH chosen AS (
    SELECT job_id FROM job_failures AS failure WHERE NOT EXISTS (
        SELECT 1 FROM procrastinate_jobs AS job
        WHERE job.id = failure.job_id AND job.status = 'failed')
    LIMIT :most FOR UPDATE SKIP LOCKED
)
DELETE FROM job_failures WHERE job_id IN (SELECT job_id FROM chosen) RETURNING job_id
""")
_NOTE_FAILURE = text("""
INSERT INTO job_failures (job_id, error) VALUES (:job_id, :error)
ON CONFLICT (job_id) DO UPDATE SET error = excluded.error, at = now()
""")
# The same job may come back to its own moment, after its worker was killed. A worker whose clock is
# ahead takes no moment that is still to come for the database: it would take all until then.
_LATEST_TICK = "CAST(extract(epoch FROM now()) AS bigint) + 60"
_CLAIM_TICK = text(f"""
INSERT INTO job_ticks (name, tick, job_id) VALUES (:name, least(:tick, {_LATEST_TICK}), :job_id)
ON CONFLICT (name) DO UPDATE SET tick = excluded.tick, job_id = excluded.job_id
WHERE job_ticks.tick < excluded.tick OR job_ticks.job_id = excluded.job_id
    OR job_ticks.tick > {_LATEST_TICK}
RETURNING xmax = 0 AS is_first
""")  # noqa: S608 - of constants
_COUNT = text("""
SELECT queue_name, CASE status WHEN 'todo' THEN 'waiting' WHEN 'doing' THEN 'running'
                               ELSE 'dead' END AS state, count(*)
FROM procrastinate_jobs WHERE status IN ('todo', 'doing', 'failed') GROUP BY 1, 2
""")

_AGE = text(
    "SELECT CAST(extract(epoch FROM now() - min(at)) AS float8) FROM procrastinate_events"
    " WHERE job_id = :job_id"
)
_CHOSEN = """
job.status = 'failed' AND (CAST(:job_id AS bigint) IS NULL OR job.id = :job_id)
AND (CAST(:name AS varchar) IS NULL OR job.task_name = :name)
"""
# What a job was given stays where it is: it may name people.
_DEAD = text(f"""
SELECT job.id, job.task_name, job.queue_name, job.attempts,
       coalesce(failure.error, 'unknown') AS error,
       (SELECT min(at) FROM procrastinate_events WHERE job_id = job.id) AS asked_at,
       (SELECT max(at) FROM procrastinate_events WHERE job_id = job.id AND type = 'failed')
           AS failed_at,
       job.args ->> '_request_id' AS request_id
FROM procrastinate_jobs AS job LEFT JOIN job_failures AS failure ON failure.job_id = job.id
WHERE {_CHOSEN} AND job.id > :after ORDER BY job.id LIMIT :limit
""")  # noqa: S608 - of constants
_RETRY_DEAD = text(f"""
WITH chosen AS (SELECT job.id FROM procrastinate_jobs AS job WHERE {_CHOSEN} FOR UPDATE)
SELECT id, procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) FROM chosen
""")  # noqa: S608
# They get all their attempts again. One that a schedule has asked for is wanted now, whatever
# became of its moment.
_START_ANEW = text("""
UPDATE procrastinate_jobs AS job SET attempts = 0, args = CASE
    WHEN EXISTS (SELECT 1 FROM job_ticks AS tick WHERE tick.name = job.task_name)
    THEN job.args - 'timestamp' ELSE job.args END
WHERE job.id = ANY(:ids)
""")
_FORGET_FAILURES_OF = text("DELETE FROM job_failures WHERE job_id = ANY(:ids)")
_DISCARD_DEAD = text(
    f"DELETE FROM procrastinate_jobs AS job WHERE {_CHOSEN} RETURNING job.id"  # noqa: S608
)

# For the worker, which speaks psycopg: a job is ended or put back by who has it, and by no worker
# from which it was taken. The row is locked before it is changed. A worker that was silent for long
# is forgotten, and so is that the job was its own; whether somebody else has taken it since, and
# been forgotten too, tells the attempt, which each return to those that wait raises.
_OWN = """
WITH own AS (
    SELECT id FROM procrastinate_jobs
    WHERE id = %(job_id)s AND (worker_id = %(worker_id)s OR worker_id IS NULL)
    AND attempts = %(attempts)s FOR UPDATE
)
"""
FINISH_OWN = f"{_OWN} SELECT procrastinate_finish_job_v1(id, %(status)s, %(delete_job)s) FROM own"  # noqa: S608
RETRY_OWN = f"""{_OWN} SELECT procrastinate_retry_job_v2(
    id, now() + make_interval(secs => %(rest)s), NULL, NULL, NULL) FROM own"""  # noqa: S608


@dataclass(frozen=True)
class Chosen:
    """Which of the jobs that failed for good are meant; all when nothing is said.

    Attributes:
        job_id: The one with this number.
        name: Those of this name.
    """

    job_id: int | None = None
    name: str | None = None

    def values(self) -> dict[str, Any]:
        """Return the parameters of a query."""
        return {"job_id": self.job_id, "name": self.name}


async def enqueue(
    session: AsyncSession, place: tuple[str, int], name: str, arguments: Mapping[str, Any]
) -> int:
    """Store a job, which a worker sees when the session's transaction is committed.

    Args:
        session: The transaction.
        place: Its queue, and its priority there.
        name: Of the job.
        arguments: For its handler.

    Returns:
        Its number.
    """
    queue, priority = place
    values = {
        "queue": queue,
        "priority": priority,
        "name": name,
        "arguments": json.dumps(arguments),
    }
    job_id: int = (await session.execute(_ENQUEUE, values)).scalar_one()
    return job_id


async def requeue_stalled(
    session: AsyncSession, seconds: float, attempts: int, own_attempts: Mapping[str, int]
) -> Sequence[JobRow]:
    """Put the jobs of workers that have ended without a word back to those that wait.

    Args:
        session: The transaction.
        seconds: How long a worker may be silent.
        attempts: A job that has been tried so often is failed instead: it may be what ends them.
        own_attempts: The same of those jobs that have another number, by name.

    Returns:
        The id, the name, the attempt of each, whether that was its last, and the id of its request.
    """
    values = {
        "seconds": seconds,
        "attempts": attempts,
        "own_attempts": json.dumps(dict(own_attempts)),
    }
    return (await session.execute(_REQUEUE_STALLED, values)).all()


async def delete_ended(session: AsyncSession, most: int, days: int) -> int:
    """Take away jobs that ended days ago and were kept, failed ones above all; return how many."""
    return len((await session.execute(_DELETE_ENDED, {"days": days, "most": most})).all())


async def forget_failures(session: AsyncSession, most: int) -> int:
    """Forget why jobs have failed that are gone or are tried again; return how many."""
    return len((await session.execute(_FORGET_FAILURES, {"most": most})).all())


async def note_failure(session: AsyncSession, job_id: int, error: str) -> None:
    """Keep the kind of error for which a job has failed for good."""
    await session.execute(_NOTE_FAILURE, {"job_id": job_id, "error": error[:200]})


async def age(connection: AsyncConnection, job_id: int) -> float:
    """Return how many seconds ago a job was asked for."""
    seconds: float | None = (await connection.execute(_AGE, {"job_id": job_id})).scalar_one()
    return seconds or 0.0


async def claim_tick(session: AsyncSession, name: str, tick: int, job_id: int) -> bool | None:
    """Take a moment of a schedule for a job; None when it, or a later one, was taken before.

    Args:
        session: The transaction.
        name: Of the periodic job.
        tick: The moment, in seconds since 1970.
        job_id: The job that was stored for it.

    Returns:
        Whether it is the first one that was ever taken for a job of this name.
    """
    values = {"name": name, "tick": tick, "job_id": job_id}
    is_first: bool | None = (await session.execute(_CLAIM_TICK, values)).scalar()
    return is_first


async def count(connection: AsyncConnection) -> Sequence[JobRow]:
    """Return a queue, a state (waiting, running, dead) and how many jobs are so, for each."""
    return (await connection.execute(_COUNT)).all()


async def list_dead(
    connection: AsyncConnection, chosen: Chosen, after: int, limit: int
) -> Sequence[JobRow]:
    """Return jobs that failed for good, oldest first, without what they were given."""
    values = {**chosen.values(), "after": after, "limit": limit}
    return (await connection.execute(_DEAD, values)).all()


async def retry_dead(session: AsyncSession, chosen: Chosen) -> list[int]:
    """Put jobs that failed for good back to those that wait; return their numbers."""
    rows = await session.execute(_RETRY_DEAD, chosen.values())
    ids = [row.id for row in rows]
    await session.execute(_START_ANEW, {"ids": ids})
    await session.execute(_FORGET_FAILURES_OF, {"ids": ids})
    return ids


async def discard_dead(session: AsyncSession, chosen: Chosen) -> list[int]:
    """Take jobs that failed for good away; return their numbers."""
    ids = list((await session.execute(_DISCARD_DEAD, chosen.values())).scalars())
    await session.execute(_FORGET_FAILURES_OF, {"ids": ids})
    return ids
