"""What the queue does for itself."""

from app.jobs import repository
from app.jobs.handlers import JobResources
from app.jobs.retries import Retries
from app.log import get_logger

STALLED_AFTER = 20.0
KEPT_DAYS = 30


async def requeue_stalled(
    resources: JobResources, stalled_after: float = STALLED_AFTER, retries: Retries | None = None
) -> None:
    """Give the jobs of workers that were killed to those that live.

    Args:
        resources: What jobs may use.
        stalled_after: Seconds without a sign of life after which a worker counts as ended.
        retries: How often a job is tried.
    """
    attempts = (retries or Retries()).attempts
    async with resources.database.writing() as session:
        found = await repository.requeue_stalled(session, stalled_after, attempts)
    log = get_logger()
    for job_id, name, attempt, is_last, *_ in found:
        what = "has failed for good" if is_last else "is done again"
        write = log.error if is_last else log.warning
        write(
            "job.failed" if is_last else "job.retried",
            message=f"The worker of job {job_id} ({name}) has ended before it: it {what}.",
            job=name,
            job_id=job_id,
            attempt=attempt,
        )


async def delete_ended(resources: JobResources) -> None:
    """Forget failed jobs after 30 days."""
    async with resources.database.writing() as session:
        await repository.delete_ended(session, KEPT_DAYS)
