"""What the workers of all hosts tell each other, by way of Redis or Valkey.

Each worker holds one subscription. Nothing is kept for one that is away: its clients are told that
they do not reach everybody, and it subscribes again by itself.
"""

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import orjson
from redis.exceptions import RedisError

from app import metrics
from app.cache import Cache, CacheDownError, listening_client
from app.error_reports import ErrorReports
from app.log import get_logger
from app.settings import Settings

# The number changes with the shape of what is told: two releases listen while they overlap.
CHANNEL = "live:1"
_FRAMES, _ENDED = b"m", b"e"
_ID_BYTES = 8
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
# A store that says nothing for two of these, although it was asked, is away.
_PULSE_SECONDS = 2.0
_CONNECT_SECONDS = 3.0
# Texts, and bytes of them, that may wait for the store, and that one message of it carries: the
# store cuts a worker off that has 32 MiB to read.
_OUTBOX, _AT_ONCE = 2000, 50
_OUTBOX_BYTES, _AT_ONCE_BYTES = 4 * 1024 * 1024, 256 * 1024
_AWAY = (RedisError, CacheDownError, OSError, TimeoutError)


class Hears(Protocol):
    """Whoever listens for a worker."""

    def deliver(self, text: str) -> None:
        """Hand a text of another worker to the clients of this one."""

    def end_here(self, session_ids: Iterable[int]) -> None:
        """Close the sockets of sessions that have ended."""

    def connection_changed(self, *, up: bool) -> None:
        """Tell the clients whether those of other workers are reached."""


class EndingsTeller:
    """Tells all workers which sessions have ended."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def tell(self, session_ids: Iterable[int]) -> None:
        """Tell it; where that fails, each worker finds out by its next look at the database."""
        if not self._cache.configured:
            return
        body = b",".join(b"%d" % session_id for session_id in session_ids)
        try:
            await self._cache.publish(CHANNEL, bytes(_ID_BYTES) + _ENDED + body)
        except CacheDownError:
            metrics.WEBSOCKET_LOST.inc()
            message = "The end of a session could not be told to all workers: each looks itself."
            get_logger().warning("websocket.ending_untold", message=message)


class Bus:
    """The way of one worker to the others. Making it connects to nothing."""

    def __init__(
        self, settings: Settings, cache: Cache, hears: Hears, error_reports: ErrorReports
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._hears = hears
        self._error_reports = error_reports
        self._own_id = secrets.token_bytes(_ID_BYTES)
        self._outbox: deque[tuple[str, int]] = deque()
        self._outbox_bytes = 0
        self._filled = asyncio.Event()
        self._tried = asyncio.Event()
        self._heard = False
        self._task: asyncio.Task[None] | None = None
        # Without a store there is one worker, which reaches everybody.
        self.up = not cache.configured

    async def start(self) -> None:
        """Connect; when the store is away, go on trying while others are served."""
        metrics.WEBSOCKET_BUS.set(int(self.up))
        if self._cache.configured:
            self._task = asyncio.create_task(self._run())
            await self._tried.wait()

    async def stop(self) -> None:
        """Disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def publish(self, text: str, size: int) -> None:
        """Tell the others a text of so many bytes, soon; what they cannot be told is counted."""
        if not self._cache.configured:
            return
        full = len(self._outbox) >= _OUTBOX or self._outbox_bytes + size > _OUTBOX_BYTES
        if not self.up or full:
            metrics.WEBSOCKET_LOST.inc()
            return
        self._outbox.append((text, size))
        self._outbox_bytes += size
        self._filled.set()

    async def _run(self) -> None:
        pause = _SHORTEST_PAUSE
        while True:
            client = listening_client(self._settings)
            subscription = client.pubsub()
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await subscription.subscribe(CHANNEL)
                    await subscription.get_message(timeout=None)
                pause = _SHORTEST_PAUSE
                self._change(up=True)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._listen(subscription))
                    tasks.create_task(self._watch(subscription))
                    tasks.create_task(self._send())
            except* _AWAY as errors:
                self._change(up=False, reason=type(errors.exceptions[0]).__name__)
            except* Exception as errors:  # noqa: BLE001 - whatever it is, the next try may do better
                self._note_unforeseen(errors.exceptions)
            finally:
                await _closed(subscription.aclose, client.aclose)
            # Not all workers at the same instant.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _note_unforeseen(self, errors: Sequence[Exception]) -> None:
        """Write down and report faults of ours, which are no news of the store."""
        for error in errors:
            message = "What came from other workers, or goes to them, met an unforeseen error."
            get_logger().error("websocket.bus_failed", message=message, exc_info=error)
            self._error_reports.report(error, place="realtime")
        self._change(up=False, reason=type(errors[0]).__name__)

    def _change(self, *, up: bool, reason: str = "") -> None:
        changed, self.up = up != self.up or not self._tried.is_set(), up
        metrics.WEBSOCKET_BUS.set(int(up))
        if not up:
            metrics.WEBSOCKET_LOST.inc(len(self._outbox))
            self._outbox.clear()
            self._outbox_bytes = 0
        if changed:
            log = get_logger()
            if up:
                log.info("websocket.bus_up", message="Live messages reach all workers.")
            else:
                told = f"Live messages stay on their worker: {reason}."
                log.warning("websocket.bus_down", message=told)
            self._hears.connection_changed(up=up)
        self._tried.set()

    async def _listen(self, subscription: Any) -> None:  # noqa: ANN401 - the library's
        while True:
            message = await subscription.get_message(timeout=None)
            self._heard = True
            if message is not None and message["type"] == "message":
                await self._take(message["data"])

    async def _watch(self, subscription: Any) -> None:  # noqa: ANN401 - the library's
        """Notice a store that hangs, which a connection alone does not."""
        while True:
            self._heard = False
            await subscription.ping()
            await asyncio.sleep(_PULSE_SECONDS)
            if not self._heard:
                raise TimeoutError

    async def _send(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._outbox:
                some = self._some()
                try:
                    body = self._own_id + _FRAMES + orjson.dumps(some)
                    await self._cache.publish(CHANNEL, body)
                except (CacheDownError, asyncio.CancelledError):
                    # It is cancelled when the listener notices first that the store has gone.
                    metrics.WEBSOCKET_LOST.inc(len(some))
                    raise

    def _some(self) -> list[str]:
        """Take out what one message carries; a text that is larger goes alone."""
        some: list[str] = []
        left = _AT_ONCE_BYTES
        while self._outbox and len(some) < _AT_ONCE and (not some or self._outbox[0][1] <= left):
            text, size = self._outbox.popleft()
            self._outbox_bytes -= size
            left -= size
            some.append(text)
        return some

    async def _take(self, data: bytes) -> None:
        origin, kind, body = (
            data[:_ID_BYTES],
            data[_ID_BYTES : _ID_BYTES + 1],
            data[_ID_BYTES + 1 :],
        )
        if origin == self._own_id:
            return
        if kind == _FRAMES:
            for text in orjson.loads(body):
                self._hears.deliver(text)
                # Those who write to the clients get their turn, or their queues would overflow.
                await asyncio.sleep(0)
                # Nobody listens until all is handed out: what the store says meanwhile waits.
                self._heard = True
        elif kind == _ENDED:
            self._hears.end_here(int(number) for number in body.split(b",") if number)


async def _closed(*closers: Callable[[], Awaitable[None]]) -> None:
    """Close what may be broken already."""
    for close in closers:
        try:
            async with asyncio.timeout(1):
                await close()
        except _AWAY:
            continue
