"""How procrastinate notes for a lane of a worker that it lives, and how its jobs have ended."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from procrastinate import App, BaseRetryStrategy, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

from app.jobs import housekeeping
from app.jobs.handlers import JobResources, UnknownJobError
from app.jobs.repository import FINISH_OWN, RETRY_OWN
from app.jobs.retries import Retries
from app.jobs.service import REQUEST_ID
from app.log import get_logger

_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)


class Strategy(BaseRetryStrategy):
    """Says when a job is tried again, if at all."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return when a job is tried again that has met an exception; None when it is not."""
        if isinstance(exception, asyncio.CancelledError):
            # The worker stops; that is no fault of the job.
            return RetryDecision(retry_at=datetime.now(UTC))
        return self.decide(job)

    def decide(self, job: Job) -> RetryDecision | None:
        """Return when a job is tried again that has failed; None after its last attempt."""
        attempt = job.attempts + 1
        if self._retries.is_last(attempt):
            return None
        rest = timedelta(seconds=self._retries.rest(attempt))
        return RetryDecision(retry_at=datetime.now(UTC) + rest)


class PatientManager(JobManager):
    """Notes how a job ended also when the database is away for a moment, and its worker lives on.

    Nobody would take the job from a worker that lives, so that it would stay as it is for ever. A
    worker that was taken for dead, and lives on, leaves the job to who has it now.
    """

    def __init__(self, app: App, resources: JobResources, retries: Retries) -> None:
        super().__init__(app.connector)
        self._app = app
        self._resources = resources
        self._strategy = Strategy(retries)
        self._worker_id: int | None = None

    async def register_worker(self) -> int:
        """Make the worker of this lane known, and return its number."""
        self._worker_id = await super().register_worker()
        return self._worker_id

    async def beat(self, interval: float) -> None:
        """Give a sign of life again and again, until it is cancelled.

        procrastinate's own ones end when a lane is told to stop, before its jobs are finished:
        they would be given to another worker meanwhile.

        Args:
            interval: Seconds between two signs.
        """
        while True:
            await asyncio.sleep(interval)
            if self._worker_id is not None:
                # The next one may get through.
                with contextlib.suppress(ConnectorException):
                    await self.update_heartbeat(self._worker_id)

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001
        """Note the end of a job; one that only a newer release knows waits for it."""
        if job.task_name not in self._app.tasks:
            await self._put_back(job)
            return
        await self._note(job, FINISH_OWN, status=status.value, delete_job=delete_job)

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        *_: Any,  # noqa: ANN401
        **__: Any,  # noqa: ANN401
    ) -> None:
        """Note that a job is done again, after as long as it is until then by this clock.

        The database says when that is, by its own: the clocks of the hosts differ.
        """
        now = datetime.now(UTC)
        rest = max(((retry_at or now) - now).total_seconds(), 0.0)
        await self._note(job, RETRY_OWN, rest=rest)

    async def _put_back(self, job: Job) -> None:
        decision = self._strategy.decide(job)
        log = get_logger()
        fields = {"job": job.task_name, "job_id": job.id, "attempt": job.attempts + 1}
        what = f"Job {job.id} ({job.task_name}) is unknown to this release"
        if decision is not None:
            log.warning("job.retried", message=f"{what}: it waits for a newer one.", **fields)
            await self.retry_job(job, retry_at=decision.retry_at)
            return
        log.error("job.failed", message=f"{what}, and no newer one has come for it.", **fields)
        asked_by = job.task_kwargs.get(REQUEST_ID)
        self._resources.error_reports.report(
            UnknownJobError(job.task_name),
            job=job.task_name,
            request_id=str(asked_by) if asked_by else None,
        )
        await housekeeping.note_failure(self._resources, job.id, UnknownJobError.__name__)
        await self._note(job, FINISH_OWN, status=Status.FAILED.value, delete_job=False)

    async def _note(self, job: Job, query: str, **values: Any) -> None:  # noqa: ANN401
        for pause in (*_PAUSES, None):
            try:
                noted = await self.connector.execute_query_all_async(
                    query,
                    job_id=job.id,
                    worker_id=job.worker_id,
                    attempts=job.attempts,
                    **values,
                )
            except ConnectorException as error:
                if isinstance(error.__cause__, psycopg.OperationalError) and pause is not None:
                    await asyncio.sleep(pause)
                    continue
                if not isinstance(error.__cause__, psycopg.errors.RaiseException):
                    raise
                noted = []
            if not noted:
                message = f"Job {job.id} ({job.task_name}) ended, but another worker has taken it."
                fields = {"job": job.task_name, "job_id": job.id}
                get_logger().warning("job.taken", message=message, **fields)
            return
