"""How features ask for jobs."""

import asyncio
import contextlib
from collections.abc import Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Database, after_commit
from app.error_reports import ErrorReports
from app.file_stores import open_store
from app.jobs import dead_letters, repository
from app.jobs.attempts import carried_out
from app.jobs.handlers import (
    Argument,
    Handler,
    Handlers,
    JobResources,
    check,
    priority_of,
    queue_of,
)
from app.jobs.running import Attempt
from app.mail import Mailer
from app.settings import Settings

# The argument in which a job keeps the request that has asked for it.
REQUEST_ID = "_request_id"


class Jobs:
    """The way into the queue. Making it connects to nothing.

    On PostgreSQL a job is stored in the transaction of the request, and done by a worker. On the
    embedded database of development, where no worker is, this process does it after the commit.
    """

    def __init__(
        self, settings: Settings, handlers: Handlers, error_reports: ErrorReports | None = None
    ) -> None:
        self._settings = settings
        self._handlers = handlers
        self._error_reports = error_reports or ErrorReports()
        self._stored = settings.sqlalchemy_url.get_backend_name() == "postgresql"
        self._resources: JobResources | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def enqueue(
        self, session: AsyncSession, name: str, /, **arguments: Argument
    ) -> int | None:
        """Ask for a job, which is done if the session's transaction is committed, and only then.

        Args:
            session: The transaction that it belongs to.
            name: Of its handler in `app.job_handlers`.
            arguments: For the handler. They are kept in the database, of failed jobs for 30 days.

        Returns:
            The number of the job; None where there is no queue.

        Raises:
            UnknownJobError: when nothing does a job of this name.
            TypeError: when its handler takes other arguments.
        """
        handler = check(self._handlers, name, arguments)
        request_id = structlog.contextvars.get_contextvars().get("request_id")
        if self._stored:
            kept = {**arguments, REQUEST_ID: request_id} if request_id else arguments
            place = queue_of(handler), priority_of(handler)
            return await repository.enqueue(session, place, name, kept)
        attempt = Attempt(name, None, 1, is_last=True, request_id=request_id)

        def start() -> None:
            task = asyncio.create_task(self._run_here(attempt, handler, arguments))
            # The loop itself keeps only a weak reference.
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        after_commit(session, start)
        return None

    async def count(self, database: Database) -> dict[tuple[str, str], int]:
        """Return how many jobs are waiting, running and dead in each queue, where there are any."""
        return await dead_letters.count(database) if self._stored else {}

    async def close(self) -> None:
        """Let the jobs that this process does come to their end."""
        while self._running:
            await asyncio.wait(self._running)
        if self._resources is not None:
            await self._resources.close()

    async def _run_here(
        self, attempt: Attempt, handler: Handler, arguments: Mapping[str, Argument]
    ) -> None:
        if self._resources is None:
            settings = self._settings
            self._resources = JobResources(
                settings,
                Database(settings),
                Mailer(settings),
                open_store(settings),
                self._error_reports,
            )
        # It is in the log, and nobody waits for it.
        with contextlib.suppress(Exception):
            async with carried_out(self._resources, attempt):
                await handler(self._resources, **arguments)
