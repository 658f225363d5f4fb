"""What the queue does for itself."""

import contextlib
from collections.abc import Mapping
from functools import partial

from app.errors import UnavailableError
from app.jobs import repository
from app.jobs.handlers import JobResources
from app.jobs.retries import Retries
from app.jobs.running import Attempt
from app.log import get_logger
from app.pruning import BATCH, until_none_is_left

STALLED_AFTER = 20.0
KEPT_DAYS = 30


class WorkerEnded(Exception):  # noqa: N818 - on-call reads its name as the kind of the failure
    """The worker of a job has ended without a word each time, or the last time."""


async def requeue_stalled(
    resources: JobResources,
    own_retries: Mapping[str, Retries],
    stalled_after: float = STALLED_AFTER,
    retries: Retries | None = None,
) -> None:
    """Give the jobs of workers that were killed to those that live.

    Args:
        resources: What jobs may use.
        own_retries: How often those jobs are tried that say so themselves, by name.
        stalled_after: Seconds without a sign of life after which a worker counts as ended.
        retries: How often all others are tried.
    """
    attempts = (retries or Retries()).attempts
    own_attempts = {name: own.attempts for name, own in own_retries.items()}
    async with resources.database.writing() as session:
        found = await repository.requeue_stalled(session, stalled_after, attempts, own_attempts)
        for job_id, _, _, is_last, *_ in found:
            if is_last:
                await repository.note_failure(session, job_id, WorkerEnded.__name__)
    log = get_logger()
    for job_id, name, attempt, is_last, request_id, *_ in found:
        what = "has failed for good" if is_last else "is done again"
        write = log.error if is_last else log.warning
        write(
            "job.failed" if is_last else "job.retried",
            message=f"The worker of job {job_id} ({name}) has ended before it: it {what}.",
            job=name,
            job_id=job_id,
            attempt=attempt,
        )
        if is_last:
            resources.error_reports.report(WorkerEnded(), job=name, request_id=request_id)


async def delete_ended(resources: JobResources, batch: int = BATCH) -> None:
    """Forget failed jobs after 30 days."""
    for forget in (partial(repository.delete_ended, days=KEPT_DAYS), repository.forget_failures):
        await until_none_is_left(resources.database, forget, batch)


async def note_failure(resources: JobResources, job_id: int | None, error: str) -> None:
    """Keep for on-call why a job has failed for good.

    Where the database is away just now, the journal alone tells.

    Args:
        resources: What jobs may use.
        job_id: Of the job; None where there is no queue.
        error: The kind of error, without its text.
    """
    if job_id is None:
        return
    with contextlib.suppress(UnavailableError):
        async with resources.database.writing() as session:
            await repository.note_failure(session, job_id, error)


async def is_of_use(resources: JobResources, attempt: Attempt, seconds: float) -> bool:
    """Say whether a job that is of use for some seconds only was asked for in these.

    Args:
        resources: What jobs may use.
        attempt: At the job.
        seconds: For which it is of use.
    """
    assert attempt.job_id is not None  # noqa: S101 - only in the queue it can grow old
    async with resources.database.reading() as connection:
        age = await repository.age(connection, attempt.job_id)
    if age <= seconds:
        return True
    _note_left_out(attempt, f"it was of use for {seconds:g} s, and is {age:.0f} s old")
    return False


async def claim_tick(resources: JobResources, attempt: Attempt, tick: int) -> bool:
    """Say whether a periodic job is to be done: once for each moment of its schedule.

    A worker that was suspended asks afterwards for all the moments that it has missed, which others
    have served long ago. A worker that begins asks for the newest moment before it, which a job
    that no worker has known until then has not missed.

    Args:
        resources: What jobs may use.
        attempt: At the job.
        tick: The moment, in seconds since 1970.
    """
    assert attempt.job_id is not None  # noqa: S101 - only the queue has a schedule
    async with resources.database.writing() as session:
        is_first = await repository.claim_tick(session, attempt.job, tick, attempt.job_id)
    if is_first is False:
        return True
    new = "it is new, and begins with its next moment"
    _note_left_out(attempt, new if is_first else "its moment was served")
    return False


def _note_left_out(attempt: Attempt, why: str) -> None:
    message = f"Job {attempt.job_id} ({attempt.job}) is left out: {why}."
    get_logger().info("job.left_out", message=message)
