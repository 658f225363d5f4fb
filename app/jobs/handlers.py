"""What does a job, and what it may use."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Concatenate, TypeAlias

from app.db import Database
from app.mail import Mailer
from app.settings import Settings


@dataclass(frozen=True)
class JobResources:
    """What a process holds open for all its jobs."""

    settings: Settings
    database: Database
    mailer: Mailer


# Jobs are done at least once: a handler must bear that it has been here before.
Handler: TypeAlias = Callable[Concatenate[JobResources, ...], Awaitable[None]]
Handlers: TypeAlias = Mapping[str, Handler]
Argument: TypeAlias = str | int


@dataclass(frozen=True)
class Periodic:
    """A handler without arguments that the clock asks for.

    Attributes:
        handler: What does the job.
        cron: When, in UTC, as a line of cron; a sixth field are seconds.
    """

    handler: Callable[[JobResources], Awaitable[None]]
    cron: str

    async def __call__(self, resources: JobResources) -> None:
        """Do the job."""
        await self.handler(resources)


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
    try:
        inspect.signature(handler).bind(None, **arguments)
    except TypeError as error:
        raise TypeError(f"The handler of the job {name} takes other arguments: {error}.") from None
    return handler
