"""Giving places back: many leave at once, and must not keep the store from others."""

import asyncio
from contextlib import suppress

from app.error_reports import ErrorReports
from app.errors import UnavailableError
from app.log import get_logger
from app.realtime.desk import Desk
from app.realtime.sockets import Member

_PAUSE = 1.0
# So long a worker that stops tries to give back what is left.
_LAST_SECONDS = 2.0


class Leaving:
    """Gives places back one batch after the other, and again when the store was away."""

    def __init__(self, desk: Desk, error_reports: ErrorReports) -> None:
        self._desk = desk
        self._error_reports = error_reports
        self._left: list[Member] = []
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Give back what is left, if the store takes it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with suppress(UnavailableError, TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await self._desk.leave(self._left)

    def add(self, member: Member) -> None:
        """Give a place back, soon."""
        self._left.append(member)
        self._filled.set()

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            some = list(self._left)
            try:
                await self._desk.leave(some)
            except UnavailableError:
                self._filled.set()
                await asyncio.sleep(_PAUSE)
            except Exception as error:  # noqa: BLE001 - whatever it is, others leave as well
                message = "Places could not be given back: they become free by themselves."
                get_logger().exception("websocket.leaving_failed", message=message)
                self._error_reports.report(error, place="realtime")
                del self._left[: len(some)]
            else:
                del self._left[: len(some)]
