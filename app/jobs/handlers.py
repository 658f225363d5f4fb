"""What does a job, and what it may use."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, TypeAlias

from app.db import Database
from app.error_reports import ErrorReports
from app.file_stores import FileStore
from app.jobs.retries import Retries
from app.mail import Mailer
from app.settings import Settings

USUAL_QUEUE = "default"
SLOW_QUEUE = "slow"


@dataclass(frozen=True)
class JobResources:
    """What a process holds open for all its jobs.

    Attributes:
        settings: Of the service.
        database: The ways to it.
        mailer: The way out for mails.
        files: Where files are kept; None when they are kept nowhere.
        error_reports: Where errors are reported; nowhere unless it is given.
    """

    settings: Settings
    database: Database
    mailer: Mailer
    files: FileStore | None = None
    error_reports: ErrorReports = field(default_factory=ErrorReports)

    async def close(self) -> None:
        """Give everything back."""
        if self.files is not None:
            self.files.close()
        await self.database.close()
        await self.error_reports.close()


# Jobs are done at least once: a handler must bear that it has been here before.
Handler: TypeAlias = Callable[Concatenate[JobResources, ...], Awaitable[None]]
Handlers: TypeAlias = Mapping[str, Handler]
Argument: TypeAlias = str | int


@dataclass(frozen=True)
class Periodic:
    """A handler without arguments that the clock asks for.

    Attributes:
        handler: What does the job.
        cron: When, in UTC, as a line of cron; a sixth field, the last one, are seconds.
    """

    handler: Callable[[JobResources], Awaitable[None]]
    cron: str

    async def __call__(self, resources: JobResources) -> None:
        """Do the job."""
        await self.handler(resources)


@dataclass(frozen=True)
class _Told:
    """A handler of which more is told than what does the job."""

    handler: Handler

    async def __call__(self, resources: JobResources, **arguments: Any) -> None:  # noqa: ANN401
        """Do the job."""
        await self.handler(resources, **arguments)


@dataclass(frozen=True)
class Slow(_Told):
    """A handler that may take minutes: its jobs have a queue of their own, so that no mail waits.

    Attributes:
        handler: What does the job.
        retries: How often it is tried, when somebody waits for it; as all others if None.
    """

    retries: Retries | None = None


@dataclass(frozen=True)
class Fleeting(_Told):
    """A handler whose jobs are soon of no use: all others come first, and old ones are left out.

    Attributes:
        handler: What does the job.
        useful: Tells for how many seconds after it was asked for; its attempts span as long.
    """

    useful: Callable[[Settings], float]


class UnknownJobError(LookupError):
    """Nothing does a job of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Nothing does the job {name}: add its handler to app/job_handlers.py.")


def check(handlers: Handlers, name: str, arguments: Mapping[str, Argument]) -> Handler:
    """Return what does a job.

    Raises:
        UnknownJobError: when nothing does it.
        TypeError: when its handler takes other arguments.
    """
    handler = handlers.get(name)
    if handler is None:
        raise UnknownJobError(name)
    called = handler.handler if isinstance(handler, _Told) else handler
    try:
        inspect.signature(called).bind(None, **arguments)
    except TypeError as error:
        raise TypeError(f"The handler of the job {name} takes other arguments: {error}.") from None
    return handler


def own_retries(handlers: Handlers) -> dict[str, Retries]:
    """Return how often the jobs are tried that are not tried as all others, by name."""
    return {
        name: handler.retries
        for name, handler in handlers.items()
        if isinstance(handler, Slow) and handler.retries is not None
    }


def queue_of(handler: Handler) -> str:
    """Return the name of the queue in which the jobs of a handler wait."""
    return SLOW_QUEUE if isinstance(handler, Slow) else USUAL_QUEUE


def priority_of(handler: Handler) -> int:
    """Return the priority of the jobs of a handler within their queue; higher ones come first."""
    return -1 if isinstance(handler, Fleeting) else 0
