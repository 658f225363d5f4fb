"""Many WebSockets in one process: python -m tests.performance.listeners, orders on stdin.

The first line names the port and what each socket offers. Each further one is a number of texts
and how many of them are said at once, each by another socket; the next ones are said when everybody
has heard these. Answered are the seconds until everybody has heard all. It costs as little as it
can: the server is what is measured.
"""

import asyncio
import json
import sys
import time
from typing import Any

_TEXT = b"The tide turns at six, and all boats leave the harbour together."
# A mask of zeros is one (RFC 6455, section 5.3), and leaves the text as it is.
_SAID = b"\x81" + bytes([0x80 | len(_TEXT)]) + bytes(4) + _TEXT
_TEXT_FRAME, _PING = 1, 9


class Listener(asyncio.Protocol):
    """Counts the texts that a socket gets."""

    def __init__(self, number: int, offered: str) -> None:
        self.open = asyncio.get_running_loop().create_future()
        self.heard = 0
        self._request = (
            f"GET /ws/v{number} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {offered}\r\n\r\n"
        ).encode()
        self._buffer = bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.open.done():
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                raise SystemExit(self._buffer.decode(errors="replace"))
            self.open.set_result(None)
            self._buffer = rest
        self._count()

    def _count(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 4:
            size, begin = buffer[at + 1], at + 2
            if size == 126:
                size, begin = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            if len(buffer) < begin + size:
                break
            kind = buffer[at] & 15
            if kind == _TEXT_FRAME:
                self.heard += 1
            elif kind == _PING:
                pong = bytes([0x8A, 0x80 | size]) + bytes(4) + buffer[begin : begin + size]
                self.transport.write(pong)
            at = begin + size
        del buffer[:at]


async def main() -> None:
    """Open all, then say and count as often as it is asked."""
    orders = json.loads(sys.stdin.readline())
    loop = asyncio.get_running_loop()
    listeners = []
    for number, offered in enumerate(orders["offered"]):
        _, listener = await loop.create_connection(
            lambda number=number, offered=offered: Listener(number, offered),  # type: ignore[misc]
            "127.0.0.1",
            orders["port"],
        )
        await listener.open
        listeners.append(listener)
    print("open", flush=True)  # noqa: T201 - its answer
    while line := await asyncio.to_thread(sys.stdin.readline):
        # Welcomes that are still on their way are not what is counted.
        await asyncio.sleep(0.2)
        for listener in listeners:
            listener.heard = 0
        texts, at_once = map(int, line.split())
        started = time.perf_counter()
        for said in range(at_once, texts + 1, at_once):
            for number in range(at_once):
                listeners[(said + number) % len(listeners)].transport.write(_SAID)
            while min(listener.heard for listener in listeners) < said:
                await asyncio.sleep(0)
                if time.perf_counter() - started > orders["patience"]:
                    raise SystemExit("Not everybody has heard everything.")
        print(time.perf_counter() - started, flush=True)  # noqa: T201 - its answer


if __name__ == "__main__":
    asyncio.run(main())
