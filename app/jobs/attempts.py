"""One attempt at a job, and whom its failure is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import ServiceError
from app.jobs.handlers import JobResources
from app.jobs.housekeeping import note_failure
from app.jobs.running import Attempt, logged


@asynccontextmanager
async def carried_out(resources: JobResources, attempt: Attempt) -> AsyncIterator[None]:
    """Log an attempt; report its failure, and keep the kind of one that was the last.

    What the service itself raises for people to act on, such as a mail server that is away, is
    reported only when nobody tries again.
    """
    async with logged(attempt):
        try:
            yield
        except Exception as error:
            if attempt.is_last or not isinstance(error, ServiceError):
                resources.error_reports.report(
                    error, job=attempt.job, request_id=attempt.request_id
                )
            if attempt.is_last:
                await note_failure(resources, attempt.job_id, type(error).__name__)
            raise
