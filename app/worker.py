"""The process that does the jobs: `python -m app.worker`.

SIGTERM and SIGINT end it after the jobs in hand. Its exit status is 0 then, and 1 with one sentence
on standard error when the settings are not usable.
"""

import asyncio
import contextlib
import signal
import sys
import time

import psycopg
from procrastinate.exceptions import ConnectorException
from sqlalchemy.exc import DBAPIError

from app import log
from app.db import Database
from app.error_reports import ErrorReports
from app.errors import SettingsError, UnavailableError
from app.file_stores import open_store
from app.job_handlers import handlers as all_handlers
from app.jobs.handlers import Handlers, JobResources
from app.jobs.queue import Queue, WorkerOptions
from app.mail import Mailer
from app.settings import Settings, load_settings

_AWAY = (UnavailableError, DBAPIError, ConnectorException, psycopg.Error, OSError)
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
# A worker that worked for so long has not come back in vain.
_LASTING = 60.0


async def run(settings: Settings, handlers: Handlers, options: WorkerOptions | None = None) -> None:
    """Do jobs until a signal ends it.

    Args:
        settings: of the service.
        handlers: what does each job.
        options: how it works, for tests.

    Raises:
        SettingsError: when the settings name a database that has no queue.
    """
    if settings.sqlalchemy_url.get_backend_name() != "postgresql":
        raise SettingsError(
            "The worker needs PostgreSQL: set APP_DATABASE_URL. On the embedded database of "
            "development the service does its jobs itself."
        )
    log.configure(settings)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    resources = JobResources(
        settings,
        Database(settings),
        Mailer(settings),
        open_store(settings),
        ErrorReports(settings),
    )
    try:
        await _Shifts(Queue(handlers, resources, options or WorkerOptions()), settings).run(
            stopping
        )
    except Exception as error:
        resources.error_reports.report(error, place="worker")
        raise
    finally:
        await resources.close()
    message = f"The worker of release {settings.release} has stopped."
    log.get_logger().info("worker.stopped", message=message)


class _Shifts:
    """Works, and begins anew whenever the database was away."""

    def __init__(self, queue: Queue, settings: Settings) -> None:
        self._queue = queue
        self._settings = settings
        self._warned = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until it is told to stop."""
        pause = _SHORTEST_PAUSE
        while not stopping.is_set():
            began = time.monotonic()
            error = await self._work(stopping)
            if stopping.is_set():
                return
            self._warn(error)
            if time.monotonic() - began > _LASTING:
                pause = _SHORTEST_PAUSE
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _work(self, stopping: asyncio.Event) -> BaseException | None:
        """Work until the database is away, which is returned, or until it is told to stop."""
        work = asyncio.create_task(self._queue.work(self._ready))
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not work.done():
            work.cancel()
        try:
            await work
        except asyncio.CancelledError:
            return None
        except _AWAY as error:
            return error
        return None

    def _ready(self) -> None:
        self._warned = False
        message = f"The worker of release {self._settings.release} does jobs."
        log.get_logger().info("worker.started", message=message)

    def _warn(self, error: BaseException | None) -> None:
        if self._warned:
            return
        self._warned = True
        while error is not None and error.__cause__ is not None:
            error = error.__cause__
        reason = f" ({type(error).__name__})" if error is not None else ""
        where = self._settings.sqlalchemy_url.render_as_string(hide_password=True)
        log.get_logger().warning(
            "worker.waits",
            message=f"The database {where} or the queue in it cannot be used{reason}: the worker "
            "tries again until it can.",
        )


def main() -> int:
    """Read the settings and work."""
    try:
        asyncio.run(run(load_settings(Settings), all_handlers))
    except SettingsError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
