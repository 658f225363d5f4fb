"""The worker's side of the queue: procrastinate, with the handlers as its tasks.

procrastinate's own log lines hold the arguments of jobs, so they are not passed on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

from app.jobs import housekeeping
from app.jobs.handlers import Handler, Handlers, JobResources, Periodic
from app.jobs.repository import QUEUE
from app.jobs.retries import Retries
from app.jobs.running import Attempt, logged
from app.jobs.service import REQUEST_ID
from app.log import get_logger
from app.settings import Settings

_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
# These have lines of their own, see app.jobs.running.
_ENDS_OF_JOBS = ("job_error", "job_error_retry", "job_aborted", "job_aborted_retry")


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker works; times are in seconds.

    Attributes:
        concurrency: Jobs that it does at once.
        heartbeat: Between two signs of life.
        stalled_after: After so long without one its jobs are given to others.
        grace: That the jobs in hand have when it is told to stop.
        poll: Between two looks for jobs that nobody has announced, such as second attempts.
        retries: How often a job is tried.
    """

    concurrency: int = 4
    heartbeat: float = 5.0
    stalled_after: float = housekeeping.STALLED_AFTER
    grace: float = 50.0
    poll: float = 5.0
    retries: Retries = field(default_factory=Retries)


class Queue:
    """The queue as one worker sees it. Making it connects to nothing."""

    def __init__(self, handlers: Handlers, resources: JobResources, options: WorkerOptions) -> None:
        _keep_arguments_out_of_the_log()
        self._resources = resources
        self._options = options
        connector = PsycopgConnector(
            kwargs=connection_arguments(resources.settings),
            min_size=1,
            max_size=options.concurrency,
            timeout=resources.settings.database_pool_timeout,
        )
        self._app = App(connector=connector)
        self._app.job_manager = _PatientManager(self._app, options.retries)
        for name, handler in handlers.items():
            self._add(name, handler)

    async def work(self, ready: Callable[[], None]) -> None:
        """Do jobs until it is cancelled; those in hand are then finished.

        Args:
            ready: Called when the database can be used.

        Raises:
            UnavailableError, DBAPIError, ConnectorException, psycopg.Error: when it cannot. It may
                also return then.
        """
        options = self._options
        await housekeeping.requeue_stalled(self._resources, options.stalled_after, options.retries)
        try:
            await self._app.open_async()
            ready()
            await self._app.run_worker_async(
                concurrency=options.concurrency,
                fetch_job_polling_interval=options.poll,
                shutdown_graceful_timeout=options.grace,
                delete_jobs="successful",
                install_signal_handlers=False,
                update_heartbeat_interval=options.heartbeat,
                stalled_worker_timeout=options.stalled_after,
            )
        finally:
            await self._app.close_async()

    def _add(self, name: str, handler: Handler) -> None:
        retries = self._options.retries

        async def task(context: JobContext, /, **arguments: Any) -> None:  # noqa: ANN401
            request_id = arguments.pop(REQUEST_ID, None)
            if isinstance(handler, Periodic):
                # The clock tells for which time, which no handler needs.
                arguments.pop("timestamp", None)
            number = context.job.attempts + 1
            is_last = retries.is_last(number)
            async with logged(Attempt(name, context.job.id, number, is_last, request_id)):
                await handler(self._resources, **arguments)

        strategy = _Strategy(retries)
        made: Any = self._app.task(name=name, queue=QUEUE, pass_context=True, retry=strategy)(task)
        if isinstance(handler, Periodic):
            self._app.periodic(cron=handler.cron)(made)


class _Strategy(BaseRetryStrategy):
    def __init__(self, retries: Retries) -> None:
        self._retries = retries

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, asyncio.CancelledError):
            # The worker stops; that is no fault of the job.
            return RetryDecision(retry_at=datetime.now(UTC))
        return self.decide(job)

    def decide(self, job: Job) -> RetryDecision | None:
        attempt = job.attempts + 1
        if self._retries.is_last(attempt):
            return None
        rest = timedelta(seconds=self._retries.rest(attempt))
        return RetryDecision(retry_at=datetime.now(UTC) + rest)


class _PatientManager(JobManager):
    """Notes how a job ended also when the database is away for a moment, and its worker lives on.

    Nobody would take the job from a worker that lives, so that it would stay as it is for ever.
    """

    def __init__(self, app: App, retries: Retries) -> None:
        super().__init__(app.connector)
        self._app = app
        self._strategy = _Strategy(retries)

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001
        """Note the end of a job; one that only a newer release knows waits for it."""
        if job.task_name not in self._app.tasks:
            await self._put_back(job)
            return
        finish = super().finish_job
        await self._note(job, lambda: finish(job, status, delete_job))

    async def retry_job(self, job: Job, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        """Note that a job is done again."""
        retry = super().retry_job
        await self._note(job, lambda: retry(job, *arguments, **options))

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
        finish = super().finish_job
        await self._note(job, lambda: finish(job, Status.FAILED, delete_job=False))

    async def _note(self, job: Job, note: Callable[[], Awaitable[None]]) -> None:
        for pause in (*_PAUSES, None):
            try:
                await note()
            except ConnectorException as error:
                if isinstance(error.__cause__, psycopg.OperationalError) and pause is not None:
                    await asyncio.sleep(pause)
                    continue
                if not isinstance(error.__cause__, psycopg.errors.RaiseException):
                    raise
                message = f"Job {job.id} ({job.task_name}) ended, but another worker has taken it."
                get_logger().warning("job.taken", message=message, job_id=job.id)
            return


class _Troubles(logging.Handler):
    """Passes on what procrastinate warns of, by its name and without its text."""

    def emit(self, record: logging.LogRecord) -> None:
        action = getattr(record, "action", record.funcName)
        error = record.exc_info[1] if record.exc_info else None
        # A database that is away is told of once, by app.worker.
        if action in {*_ENDS_OF_JOBS, "task_not_found"} or isinstance(error, ConnectorException):
            return
        message = f"procrastinate warns of {action}."
        kind = type(error).__name__ if error else None
        get_logger().warning("worker.trouble", message=message, error=kind)


def _keep_arguments_out_of_the_log() -> None:
    logger = logging.getLogger("procrastinate")
    logger.handlers = [_Troubles()]
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    # It tells of each attempt to connect.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)


def connection_arguments(settings: Settings) -> dict[str, Any]:
    """Return the settings' way to the database in the words of libpq."""
    url = settings.sqlalchemy_url
    hosts = url.query.get("host", url.host)
    arguments = {
        "host": ",".join(hosts) if isinstance(hosts, tuple) else hosts,
        "port": url.port or url.query.get("port"),
        "user": url.username or url.query.get("user"),
        "password": url.password,
        "dbname": url.database,
        "sslmode": url.query.get("ssl"),
        "connect_timeout": max(2, int(settings.database_connect_timeout)),
        "application_name": f"{settings.syslog_identifier} worker {settings.release}",
        "options": f"-c statement_timeout={int(settings.database_statement_timeout * 1000)}",
    }
    return {name: value for name, value in arguments.items() if value is not None}
