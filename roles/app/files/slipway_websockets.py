"""The WebSockets of the draining worker, which bear what a client may do to them.

The application never sees a flood of frames: Uvicorn answers each ping and keeps each fragment,
however many come in one read, and nobody else is served meanwhile. And a client that is told to go
while it still sends would not hear why: a connection that is closed with something unread in it is
reset, and what was on its way to the client is lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

# Control frames and fragments that a client may send at once, and then in a second. A message of
# 64 KiB in fragments of 1 KiB passes.
_FRAMES, _FRAMES_A_SECOND = 256, 64
# Seconds without anything new after which a client that was told to go has nothing more under way.
_SILENCE = 1.0
# To what can open no WebSocket, such as a request with a body (RFC 6455, section 4.1).
_NO_HANDSHAKE = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 33\r\n\r\nThis request opens no WebSocket.\n"
)
# Bytes that are parsed before it is looked whether the application has something to read: of the
# smallest frames they hold some seven hundred.
_PIECE = 4096


class CountingFrames(ServerProtocol):
    """The frames of one WebSocket: too many that are no whole messages fail it with 1008."""

    def __init__(self, max_size: int) -> None:
        super().__init__(max_size=max_size, logger=logging.getLogger("uvicorn.error"))
        self._left, self._at = float(_FRAMES), time.monotonic()

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame; whole messages are counted by the application while it listens."""
        whole = frame.opcode in (Opcode.TEXT, Opcode.BINARY) and frame.fin
        if not (whole and self.state is OPEN) and not self._allowed():
            reason = "You send too many frames."
            self.fail(CloseCode.POLICY_VIOLATION, reason)
            # It ends the parsing; what is still in the same read is thrown away.
            raise ProtocolError(reason)
        super().recv_frame(frame)

    def _allowed(self) -> bool:
        now = time.monotonic()
        self._left = min(float(_FRAMES), self._left + (now - self._at) * _FRAMES_A_SECOND)
        self._at = now
        self._left -= 1
        return self._left >= 0


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that parses no more than the application reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, with nothing parsed."""
        super().connection_made(transport)
        self.conn = CountingFrames(self.config.ws_max_size)
        self._unparsed = bytearray()
        self._ends_at: float | None = None

    def data_received(self, data: bytes) -> None:
        """Parse it piece by piece; throw away what comes after the end."""
        if self._ends_at is not None:
            self._wait_for_silence(self._ends_at)
            return
        self._unparsed += data
        self._parse()

    def handle_parser_exception(self) -> None:
        """Tell the client why it has to go, and read until it has nothing more to say."""
        sent = self.conn.close_sent
        assert sent is not None  # noqa: S101 - the parser has failed the connection
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": int(sent.code), "reason": sent.reason}
        )
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._unparsed.clear()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self._ends_at = self.loop.time() + self.close_timeout
        self._wait_for_silence(self._ends_at)

    def shutdown(self) -> None:
        """Close it; one whose peer has said its goodbye already is told nothing more."""
        # Uvicorn keeps it as an open one until all is sent, and would fail.
        if self.handshake_complete and self.conn.state is not OPEN:
            self.stop_keepalive()
            self.transport.close()
        else:
            super().shutdown()

    def _wait_for_silence(self, ends_at: float) -> None:
        if self.close_timer is not None:
            self.close_timer.cancel()
        rest = min(_SILENCE, max(0.0, ends_at - self.loop.time()))
        self.close_timer = self.loop.call_later(rest, self.transport.close)

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next message; when it was the last one, parse the next piece."""
        message = await super().receive()
        self._parse()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message; one that closes lets the peer's answer be looked for.

        Raises:
            ClientDisconnected: when the connection has failed. Why, the application reads.
        """
        if self.close_sent and self.initial_response is None:
            raise ClientDisconnected
        await super().send(message)
        if self.close_sent:
            self._parse()

    def _parse(self) -> None:
        while self._unparsed and not self.read_paused and not self.transport.is_closing():
            piece = bytes(self._unparsed[:_PIECE])
            del self._unparsed[:_PIECE]
            super().data_received(piece)
            if self.conn.handshake_exc is not None and not self.handshake_initiated:
                # Uvicorn would leave it without an answer and without an end.
                self.close_sent = True
                self.transport.write(_NO_HANDSHAKE)
                self.transport.close()
