"""The queries on tasks."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Row,
    String,
    bindparam,
    cast,
    column,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    table,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Database, Identifier
from app.prepared import Prepared
from app.tasks.models import Task

TaskRow: TypeAlias = Row[*tuple[Any, ...]]

OPEN = ("queued", "running")
# What is told of a task that nothing better is known of: of those that failed, on-call can have it
# done after all.
FAILED = "task_failed"
COLUMNS = (
    Task.id,
    Task.user_id,
    Task.kind,
    Task.status,
    Task.file_id,
    Task.error,
    Task.created_at,
    Task.started_at,
    Task.ended_at,
    Task.expires_at,
)
_JOBS = table("procrastinate_jobs", column("id", BigInteger), column("status", String))
_FIND = Prepared(
    select(*COLUMNS).where(
        Task.id == bindparam("task_id", type_=Identifier),
        Task.user_id == bindparam("user_id", type_=Identifier),
    )
)
_OF_RUN = Prepared(
    select(Task.id).where(
        Task.id == bindparam("task_id", type_=Identifier),
        Task.run == bindparam("run", type_=String),
        Task.status == "running",
    )
)


async def count_open(session: AsyncSession, user_id: int) -> int:
    """Return how many tasks of a user have not ended."""
    query = (
        select(func.count()).select_from(Task).where(Task.user_id == user_id, Task.status.in_(OPEN))
    )
    return (await session.execute(query)).scalar_one()


async def add(session: AsyncSession, values: Mapping[str, Any]) -> TaskRow:
    """Store a task."""
    return (await session.execute(insert(Task).values(**values).returning(*COLUMNS))).one()


async def set_job(session: AsyncSession, task_id: int, job_id: int | None) -> None:
    """Tell a task which job does it."""
    await session.execute(update(Task).where(Task.id == task_id).values(job_id=job_id))


async def find(database: Database, task_id: int, user_id: int) -> Sequence[Any] | None:
    """Return a task of a user."""
    rows = await database.fetch(_FIND, {"task_id": task_id, "user_id": user_id})
    return rows[0] if rows else None


async def is_of_run(database: Database, task_id: int, run: str) -> bool:
    """Say whether a run is still the one that may end a task."""
    return bool(await database.fetch(_OF_RUN, {"task_id": task_id, "run": run}))


async def begin(
    session: AsyncSession, task_id: int, run: str, now: datetime
) -> tuple[int, bool] | None:
    """Make a run the one that may end a task, unless it has ended for a reason of its own.

    Returns:
        Whose the task is, and whether a queue has its job.
    """
    statement = (
        update(Task)
        .where(Task.id == task_id, or_(Task.status.in_(OPEN), Task.error == FAILED))
        .values(
            status="running",
            run=run,
            started_at=now,
            ended_at=None,
            expires_at=None,
            error=None,
        )
        .returning(Task.user_id, Task.job_id)
    )
    row = (await session.execute(statement)).first()
    return None if row is None else (row.user_id, row.job_id is not None)


async def is_there(session: AsyncSession, task_id: int) -> bool:
    """Say whether there is such a task, whatever became of it."""
    query = select(Task.id).where(Task.id == task_id)
    return (await session.execute(query)).first() is not None


async def change_of_run(
    session: AsyncSession, task_id: int, run: str, values: Mapping[str, Any]
) -> bool:
    """Change a task if this run is still the one that may; False when it is not."""
    statement = (
        update(Task)
        .where(Task.id == task_id, Task.run == run, Task.status == "running")
        .values(**values)
        .returning(Task.id)
    )
    return (await session.execute(statement)).first() is not None


async def set_file(session: AsyncSession, task_id: int, file_id: int) -> None:
    """Say which file came of a task."""
    await session.execute(update(Task).where(Task.id == task_id).values(file_id=file_id))


async def fail_abandoned(
    session: AsyncSession, error: str, ended_at: datetime, expires_at: datetime
) -> Sequence[int]:
    """Fail the open tasks whose job has failed for good or is gone; return their ids."""
    wanted = select(_JOBS.c.id).where(
        _JOBS.c.id == Task.job_id, cast(_JOBS.c.status, String).in_(("todo", "doing"))
    )
    statement = (
        update(Task)
        .where(Task.status.in_(OPEN), Task.job_id.is_not(None), ~exists(wanted))
        .values(status="failed", run=None, error=error, ended_at=ended_at, expires_at=expires_at)
        .returning(Task.id)
    )
    return (await session.execute(statement)).scalars().all()


async def delete_expired(session: AsyncSession, now: datetime, limit: int) -> Sequence[TaskRow]:
    """Take tasks away that ended long enough ago; return whose each was, its file and its job."""
    expired = select(Task.id).where(Task.expires_at <= now).order_by(Task.id).limit(limit)
    statement = (
        delete(Task).where(Task.id.in_(expired)).returning(Task.user_id, Task.file_id, Task.job_id)
    )
    return (await session.execute(statement)).all()
