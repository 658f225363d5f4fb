"""One WebSocket: what waits for its client, how fast the client may talk, and how it ends.

It knows nothing of HTTP: what it reads and writes are the messages of ASGI
(https://asgi.readthedocs.io/en/latest/specs/www.html#websocket).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.realtime.frames import Frame
from app.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# So long a client that reads slowly may take to read the reason why it is closed.
_PARTING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a socket is closed.

    Attributes:
        code: of RFC 6455, section 7.4, or of its registry; 4401 is our own.
        reason: for people.
        by_client: whether the client or the server below has closed it already.
    """

    code: int
    reason: str
    by_client: bool = False


IDLE = Ending(1001, "You were silent for too long.")
BINARY = Ending(1003, "Only texts are understood.")
FLOOD = Ending(1008, "You send too many messages.")
TOO_MUCH = Ending(1008, "You send too many bytes.")
TOO_LARGE = Ending(1009, "The message is too large.")
TOO_SLOW = Ending(1013, "You read too slowly: come back later.")
SESSION_ENDED = Ending(4401, "Your session has ended: log in again.")
# The server is replaced by another one, which the client finds at the same address.
RESTART = 1012
# What these say of the service no client can say.
_NOT_OF_CLIENTS = frozenset({RESTART, TOO_SLOW.code, SESSION_ENDED.code})
_CLOSED_BY_CLIENT = 1000


@dataclass(frozen=True, slots=True)
class Member:
    """Who is at the other end.

    Attributes:
        client_id: the name that the client has given itself.
        user_id: the account.
        session_id: with which the socket ends.
        connection_id: the socket's own name, on all workers.
    """

    client_id: str
    user_id: int
    session_id: int
    connection_id: str


class Bucket:
    """How much a client may send, messages or bytes: so much at once, then so much a second."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate, self._burst = rate, float(burst)
        self._left, self._at = float(burst), now

    def left(self, now: float) -> float:
        """Return how much may be sent at once."""
        return min(self._burst, self._left + (now - self._at) * self._rate)

    def is_full(self, now: float) -> bool:
        """Say whether it is as good as a new one."""
        return self.left(now) >= self._burst

    def take(self, now: float, amount: int = 1) -> bool:
        """Count what is sent; say whether it is allowed."""
        self._left, self._at = self.left(now), now
        if self._left < amount:
            return False
        self._left -= amount
        return True


class Socket:
    """An open WebSocket.

    Attributes:
        member: who is at the other end.
        budget: the bytes that all sockets of the account on this worker may make others hear.
        messages: how many messages it may send.
        received: messages of the client that were taken.
        sent: messages that were handed to the server below.
    """

    def __init__(
        self, member: Member, settings: Settings, budget: Bucket, messages: Bucket
    ) -> None:
        self.member = member
        self.budget, self.messages = budget, messages
        self.received = 0
        self.sent = 0
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._ended: asyncio.Future[Ending] = self._loop.create_future()
        self._waiting: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._most, self._most_bytes = settings.websocket_queue, settings.websocket_queue_bytes
        # A bare future: an event costs as much again for each text and each socket.
        self._sleeping: asyncio.Future[None] | None = None
        self._heard = self._loop.time()
        self._idle: asyncio.TimerHandle | None = None

    def offer(self, frame: Frame) -> None:
        """Let a message wait for its turn; who lets too much wait is closed, nobody is delayed."""
        if self._ended.done():
            return
        self._waiting_bytes += frame.size
        if len(self._waiting) >= self._most or self._waiting_bytes > self._most_bytes:
            self.end(TOO_SLOW)
            return
        self._waiting.append(frame)
        if self._sleeping is not None:
            # It is cancelled when the writer is.
            if not self._sleeping.done():
                self._sleeping.set_result(None)
            self._sleeping = None

    def end(self, ending: Ending) -> None:
        """Close it, for the first reason that is given."""
        if not self._ended.done():
            self._ended.set_result(ending)

    async def run(
        self, receive: Receive, send: Send, said: Callable[["Socket", str], Awaitable[None]]
    ) -> Ending:
        """Talk with the client until one of both ends it.

        Args:
            receive: gives the next message of the client.
            send: takes a message; it waits while the client does not read.
            said: is called with each text of the client, and waited for.
        """
        self._look_idle()
        # When the end has come before, they are cancelled before they begin: no coroutine waits.
        tasks = [
            asyncio.create_task(self._guarded(partial(self._read, receive, said))),
            asyncio.create_task(self._guarded(partial(self._write, send))),
        ]
        try:
            ending = await self._ended
        finally:
            if self._idle is not None:
                self._idle.cancel()
            self._waiting.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not ending.by_client:
            await self._part(send, ending)
        return ending

    async def _part(self, send: Send, ending: Ending) -> None:
        """Tell the client why; for one that does not read, not for long."""
        message = {"type": "websocket.close", "code": ending.code, "reason": ending.reason}
        # The server below raises an OSError when the client has gone meanwhile.
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(_PARTING_SECONDS):
                await send(message)

    async def _guarded(self, talk: Callable[[], Awaitable[None]]) -> None:
        """Let whatever goes wrong end the socket instead of leaving it half open."""
        try:
            await talk()
        except OSError:
            self.end(Ending(1006, "", by_client=True))
        except Exception as error:  # noqa: BLE001 - it is raised where the socket ends
            if not self._ended.done():
                self._ended.set_exception(error)

    async def _read(
        self, receive: Receive, said: Callable[["Socket", str], Awaitable[None]]
    ) -> None:
        while not self._ended.done():
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self.end(_ending_of(message))
                return
            self._heard = self._loop.time()
            text: str | None = message.get("text")
            ending = self._judge(text)
            if ending is not None or text is None:
                self.end(ending or BINARY)
                return
            self.received += 1
            await said(self, text)

    def _judge(self, text: str | None) -> Ending | None:
        """Return why a message ends the socket, or nothing."""
        limit = self._settings.websocket_message_bytes
        if text is None:
            return BINARY
        # A character has one byte at least, so that most need not be encoded to be measured.
        if len(text) > limit or (len(text) * 4 > limit and len(text.encode()) > limit):
            return TOO_LARGE
        return None if self.messages.take(self._heard) else FLOOD

    async def _write(self, send: Send) -> None:
        while True:
            while self._waiting:
                frame = self._waiting.popleft()
                self._waiting_bytes -= frame.size
                try:
                    await send(frame.message)
                except OSError:
                    # Why it has ended, the reader is just being told.
                    await asyncio.sleep(_PARTING_SECONDS)
                    raise
                self.sent += 1
            self._sleeping = self._loop.create_future()
            await self._sleeping

    def _look_idle(self) -> None:
        silent = self._loop.time() - self._heard
        limit = self._settings.websocket_idle_seconds
        if silent >= limit:
            self.end(IDLE)
        elif not self._ended.done():
            self._idle = self._loop.call_later(limit - silent, self._look_idle)


def _ending_of(message: Message) -> Ending:
    """Return why the client, or the server below, has closed a socket.

    The server below gives no reason, not even an empty one, when it stops.
    """
    code = message.get("code") or 1005
    if code in _NOT_OF_CLIENTS and "reason" in message:
        code = _CLOSED_BY_CLIENT
    return Ending(code, message.get("reason") or "", by_client=True)
