"""The worker's side of the queues: procrastinate, with the handlers as its tasks.

Slow jobs have a queue and a lane of their own: however many wait, and however long each takes, the
others are done meanwhile.

procrastinate's own log lines hold the arguments of jobs, so they are not passed on.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import ConnectorException

from app.error_reports import ErrorReports
from app.jobs import housekeeping
from app.jobs.attempts import carried_out
from app.jobs.handlers import (
    SLOW_QUEUE,
    USUAL_QUEUE,
    Fleeting,
    Handler,
    Handlers,
    JobResources,
    Periodic,
    own_retries,
    queue_of,
)
from app.jobs.manager import PatientManager, Strategy
from app.jobs.retries import Retries
from app.jobs.running import Attempt
from app.jobs.service import REQUEST_ID
from app.log import get_logger
from app.settings import Settings

# These have lines of their own, see app.jobs.running.
_ENDS_OF_JOBS = ("job_error", "job_error_retry", "job_aborted", "job_aborted_retry")


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker works; times are in seconds.

    Attributes:
        concurrency: Jobs that it does at once.
        slow: Slow jobs that it does at once, beside the others.
        heartbeat: Between two signs of life.
        stalled_after: After so long without one its jobs are given to others.
        grace: That the jobs in hand have when it is told to stop.
        poll: Between two looks for jobs that nobody has announced, such as second attempts.
        retries: How often a job is tried whose handler does not say so itself.
    """

    concurrency: int = 4
    slow: int = 1
    heartbeat: float = 5.0
    stalled_after: float = housekeeping.STALLED_AFTER
    grace: float = 50.0
    poll: float = 5.0
    retries: Retries = field(default_factory=Retries)


class Queue:
    """The queues as one worker sees them. Making it connects to nothing."""

    def __init__(self, handlers: Handlers, resources: JobResources, options: WorkerOptions) -> None:
        _keep_arguments_out_of_the_log(resources.error_reports)
        self._resources = resources
        self._options = options
        self._own_retries = own_retries(handlers)
        self._connector = PsycopgConnector(
            kwargs=connection_arguments(resources.settings),
            min_size=1,
            max_size=options.concurrency + options.slow,
            timeout=resources.settings.database_pool_timeout,
        )
        # Two schedules in one process would be in each other's way, so one lane alone keeps it.
        self._usual = self._lane(handlers, scheduled=True)
        self._slow = self._lane(handlers, scheduled=False)

    async def work(self, ready: Callable[[], None]) -> None:
        """Do jobs until it is cancelled; those in hand are then finished.

        Args:
            ready: Called when the database can be used.

        Raises:
            UnavailableError, DBAPIError, ConnectorException, psycopg.Error: when it cannot. It may
                also return then.
        """
        options = self._options
        await housekeeping.requeue_stalled(
            self._resources, self._own_retries, options.stalled_after, options.retries
        )
        try:
            await self._connector.open_async()
            ready()
            await _until_the_first_ends(
                self._run(self._usual, USUAL_QUEUE, options.concurrency),
                self._run(self._slow, SLOW_QUEUE, options.slow),
            )
        finally:
            await self._connector.close_async()

    async def _run(self, lane: App, queue: str, concurrency: int) -> None:
        options = self._options
        assert isinstance(lane.job_manager, PatientManager)  # noqa: S101 - see `_lane`
        beat = asyncio.create_task(lane.job_manager.beat(options.heartbeat))
        try:
            await lane.run_worker_async(
                queues=[queue],
                concurrency=concurrency,
                fetch_job_polling_interval=options.poll,
                shutdown_graceful_timeout=options.grace,
                delete_jobs="successful",
                install_signal_handlers=False,
                update_heartbeat_interval=options.heartbeat,
                stalled_worker_timeout=options.stalled_after,
            )
        finally:
            beat.cancel()
            await asyncio.wait({beat})

    def _lane(self, handlers: Handlers, *, scheduled: bool) -> App:
        """Return what does the jobs of a queue; it knows all, for a job keeps its first queue.

        Of the moments that no worker has seen the newest is served, however long ago it was.
        """
        lane = App(connector=self._connector, periodic_defaults={"max_delay": math.inf})
        lane.job_manager = PatientManager(lane, self._resources, self._options.retries)
        for name, handler in handlers.items():
            retries = self._own_retries.get(name, self._options.retries)
            task = self._task(name, handler, retries)
            strategy = Strategy(retries)
            add: Any = lane.task(
                name=name, queue=queue_of(handler), pass_context=True, retry=strategy
            )
            made = add(task)
            if scheduled and isinstance(handler, Periodic):
                lane.periodic(cron=handler.cron)(made)
        return lane

    def _task(
        self, name: str, handler: Handler, retries: Retries
    ) -> Callable[..., Awaitable[None]]:
        async def task(context: JobContext, /, **arguments: Any) -> None:  # noqa: ANN401
            request_id = arguments.pop(REQUEST_ID, None)
            tick = arguments.pop("timestamp", None) if isinstance(handler, Periodic) else None
            number = context.job.attempts + 1
            attempt = Attempt(name, context.job.id, number, retries.is_last(number), request_id)
            async with carried_out(self._resources, attempt):
                if await self._is_wanted(handler, attempt, tick):
                    await handler(self._resources, **arguments)

        return task

    async def _is_wanted(self, handler: Handler, attempt: Attempt, tick: int | None) -> bool:
        if isinstance(handler, Fleeting):
            useful = handler.useful(self._resources.settings)
            return await housekeeping.is_of_use(self._resources, attempt, useful)
        return tick is None or await housekeeping.claim_tick(self._resources, attempt, tick)


async def _until_the_first_ends(*lanes: Coroutine[Any, Any, None]) -> None:
    """Run the lanes until one of them ends, or until they are cancelled; all have ended then."""
    running = [asyncio.create_task(lane) for lane in lanes]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for lane in running:
            lane.cancel()
        ends = await asyncio.gather(*running, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


class _Troubles(logging.Handler):
    """Passes on what procrastinate warns of, by its name and without its text."""

    def __init__(self, error_reports: ErrorReports) -> None:
        super().__init__()
        self._error_reports = error_reports

    def emit(self, record: logging.LogRecord) -> None:
        action = getattr(record, "action", record.funcName)
        error = record.exc_info[1] if record.exc_info else None
        # A database that is away is told of once, by app.worker.
        if action in {*_ENDS_OF_JOBS, "task_not_found"} or isinstance(error, ConnectorException):
            return
        message = f"procrastinate warns of {action}."
        kind = type(error).__name__ if error else None
        get_logger().warning("worker.trouble", message=message, error=kind)
        if error is not None:
            self._error_reports.report(error, place="worker")


def _keep_arguments_out_of_the_log(error_reports: ErrorReports) -> None:
    logger = logging.getLogger("procrastinate")
    logger.handlers = [_Troubles(error_reports)]
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
