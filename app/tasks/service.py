"""Asking for tasks, doing them, and ending them once.

A job may be done twice at the same time: its worker was taken for dead and lives on. Each run has a
name of its own, the newest one takes the task over, and only who still has it may end it.
"""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import Identity
from app.db import Database
from app.errors import ConflictError, NotFoundError, UnavailableError
from app.jobs import dead_letters
from app.jobs.dead_letters import Chosen
from app.jobs.service import Jobs
from app.log import get_logger
from app.owners import lock_account
from app.settings import Settings
from app.tasks import repository
from app.tasks.repository import FAILED


class TaskNotFoundError(NotFoundError):
    """The caller has no such task."""

    code = "task_not_found"
    message = "You have no such task."


class TooManyTasksError(ConflictError):
    """The account has as many open tasks as it may have."""

    code = "too_many_tasks"
    message = "You have as many open tasks as one account may have: wait until one has ended."


class OvertakenError(Exception):
    """Another run does this task now: whatever this one has made is worth nothing."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as its owner sees it."""

    id: int
    user_id: int
    kind: str
    status: str
    file_id: int | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a task.

    Attributes:
        task_id: The task.
        user_id: Whose it is.
        name: Of the run.
        queued: Whether a queue tries again when it fails.
    """

    task_id: int
    user_id: int
    name: str
    queued: bool


async def start(
    session: AsyncSession, jobs: Jobs, settings: Settings, identity: Identity, kind: str
) -> Task:
    """Ask for a task, which a worker does after the commit.

    Args:
        session: The transaction that the task and its job belong to.
        jobs: The way into the queue.
        settings: Say how many open tasks an account may have.
        identity: Who asks.
        kind: Name of the job that does it, which takes `task_id`.

    Raises:
        TooManyTasksError: when the account has too many that have not ended.
    """
    user_id = identity.account.id
    # Two requests at once would both find room for one more.
    await lock_account(session, user_id)
    if await repository.count_open(session, user_id) >= settings.open_tasks_per_user:
        raise TooManyTasksError
    row = await repository.add(session, {"user_id": user_id, "kind": kind})
    job_id = await jobs.enqueue(session, kind, task_id=row.id)
    await repository.set_job(session, row.id, job_id)
    return Task(*row)


async def find_task(database: Database, identity: Identity, task_id: int) -> Task:
    """Return a task of the caller.

    Raises:
        TaskNotFoundError: when there is none, or it is somebody else's.
    """
    row = await repository.find(database, task_id, identity.account.id)
    if row is None:
        raise TaskNotFoundError
    return Task(*row)


@asynccontextmanager
async def running(database: Database, settings: Settings, task_id: int) -> AsyncIterator[Run]:
    """Run a task; when it fails or its worker stops, it waits for its next run.

    The task ends by `end`, in the transaction that publishes what came of it.

    Raises:
        OvertakenError: when there is nothing to do: it is gone, or has ended.
    """
    name = secrets.token_hex(16)
    async with database.writing() as session:
        begun = await repository.begin(session, task_id, name, datetime.now(UTC))
        is_there = begun is not None or await repository.is_there(session, task_id)
    if begun is None:
        why = "has ended before" if is_there else "is gone, with its account or for its age"
        get_logger().info("job.left_out", message=f"Nothing is done: the task {task_id} {why}.")
        raise OvertakenError
    run = Run(task_id, begun[0], name, queued=begun[1])
    try:
        yield run
    except BaseException:
        # Whoever cannot tell it now leaves it to `settle`.
        with suppress(UnavailableError):
            await _put_back(database, settings, run)
        raise


async def check_goes_on(database: Database, run: Run) -> None:
    """Look, amid long work, at whether it is still wanted.

    Raises:
        OvertakenError: when another run does the task, or its account is gone.
    """
    if not await repository.is_of_run(database, run.task_id, run.name):
        raise OvertakenError


async def end(session: AsyncSession, settings: Settings, run: Run) -> None:
    """End a task well, in the transaction that publishes what came of it.

    Until that ends no other run can begin, nor end the task.

    Raises:
        OvertakenError: when this run may not: the transaction must be rolled back.
    """
    now = datetime.now(UTC)
    values = {"status": "succeeded", "ended_at": now, "expires_at": _expiry(settings, now)}
    if not await repository.change_of_run(session, run.task_id, run.name, values):
        raise OvertakenError


async def attach(session: AsyncSession, run: Run, file_id: int) -> None:
    """Say which file came of a task, in the transaction that has ended it."""
    await repository.set_file(session, run.task_id, file_id)


async def give_up(database: Database, settings: Settings, run: Run, error: str) -> None:
    """End a task that no further attempt could carry out; `error` is a code for its owner."""
    async with database.writing() as session:
        await repository.change_of_run(session, run.task_id, run.name, _failed(settings, error))


async def settle(database: Database, settings: Settings) -> int:
    """Fail the open tasks whose job has failed for good or was discarded; return how many.

    It is seen from the queue, so that it does not matter how a job has come to its end.
    """
    now = datetime.now(UTC)
    async with database.writing() as session:
        end = (now, _expiry(settings, now))
        return len(await repository.fail_abandoned(session, FAILED, *end))


async def forget_expired(session: AsyncSession, limit: int) -> Sequence[tuple[int, int | None]]:
    """Forget tasks whose results have expired; return whose each was, and its file.

    A job that failed for good goes with its task, for which it could do nothing any more.
    """
    expired = await repository.delete_expired(session, datetime.now(UTC), limit)
    for row in expired:
        if row.job_id is not None:
            await dead_letters.discard(session, Chosen(job_id=row.job_id))
    return [(row.user_id, row.file_id) for row in expired]


async def _put_back(database: Database, settings: Settings, run: Run) -> None:
    waiting = {"status": "queued", "run": None}
    values = waiting if run.queued else _failed(settings, FAILED)
    async with database.writing() as session:
        await repository.change_of_run(session, run.task_id, run.name, values)


def _failed(settings: Settings, error: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "status": "failed",
        "run": None,
        "error": error,
        "ended_at": now,
        "expires_at": _expiry(settings, now),
    }


def _expiry(settings: Settings, now: datetime) -> datetime:
    return now + timedelta(days=settings.task_result_days)
