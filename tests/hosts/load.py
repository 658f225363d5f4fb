"""Keep-alive load on one site, bounded in connections and time, that counts what failed.

Each connection speaks HTTP/1.1 over TLS on one socket for as long as the server lets it and opens
the next when the server announced `Connection: close` or closed it between two requests (RFC 9112,
sections 9.5 and 9.6): that is no failure. A reset, an end of the stream before an answer, a
time-out or a 5xx is one.
"""

import asyncio
import contextlib
import json
import math
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

#: A client that waits longer than this for one answer has been let down.
ANSWER_SECONDS = 10.0


@dataclass
class Report:
    """What the load saw.

    Attributes:
        statuses: Answers by status.
        methods: Answers by method.
        releases: Answers that named their release, by it; `first` holds when it did so first.
        failures: What went wrong, in sentences.
        answers: When each answer was complete (`time.monotonic`), and how many seconds it took.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    releases: Counter[str] = field(default_factory=Counter)
    first: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    answers: list[tuple[float, float]] = field(default_factory=list)

    def percentile(self, share: float, since: float = 0.0, until: float = math.inf) -> float:
        """The time that a share of the answers of a period did not exceed, in seconds."""
        times = sorted(seconds for at, seconds in self.answers if since <= at <= until)
        return times[math.ceil(share * len(times)) - 1] if times else math.nan

    @property
    def longest(self) -> float:
        """The longest time of all answers, in seconds."""
        return self.percentile(1.0)

    @property
    def requests(self) -> int:
        """Answers and failures together."""
        return self.statuses.total() + len(self.failures)


@dataclass(frozen=True)
class Site:
    """A name, the address that is asked for it, and the trust in its certificate."""

    name: str
    address: str
    context: ssl.SSLContext
    port: int = 443


class Load:
    """An asynchronous context that loads a site until it ends.

    `connections` sockets are held; every fourth request is a POST of one item with `token`. All of
    them together ask about `rate` times a second. Without a rate each asks again at once: that
    saturates the machine which the clients share with the host, so that whatever happens to it
    takes several times as long, and is for what is said of a saturated host.
    """

    def __init__(
        self, site: Site, token: str, connections: int = 32, rate: float | None = 200.0
    ) -> None:
        self.site = site
        self.token = token
        self.connections = connections
        self.rest = connections / rate if rate else 0.0
        self.report = Report()
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._connection(i)) for i in range(self.connections)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _connection(self, number: int) -> None:
        turn = number
        while not self._stop.is_set():
            try:
                reader, writer = await asyncio.wait_for(
                    asyncio.open_connection(
                        self.site.address,
                        self.site.port,
                        ssl=self.site.context,
                        server_hostname=self.site.name,
                    ),
                    ANSWER_SECONDS,
                )
            except (OSError, TimeoutError) as error:
                self.report.failures.append(f"connect: {error!r}")
                await asyncio.sleep(0.1)
                continue
            try:
                while not self._stop.is_set():
                    turn += 1
                    if not await self._request(reader, writer, turn):
                        break
                    await asyncio.sleep(self.rest)
                    if reader.at_eof():
                        break
            finally:
                writer.close()
                with contextlib.suppress(OSError, ssl.SSLError):
                    await writer.wait_closed()

    async def _request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, turn: int
    ) -> bool:
        """Sends one request; tells whether the connection can carry another."""
        method, message = self._message(turn)
        started = time.monotonic()
        try:
            writer.write(message)
            await writer.drain()
            status, headers, body = await asyncio.wait_for(_answer(reader), ANSWER_SECONDS)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            self.report.failures.append(f"{method}: {error!r}")
            return False
        ended = time.monotonic()
        self.report.answers.append((ended, ended - started))
        self.report.statuses[status] += 1
        self.report.methods[method] += 1
        if status >= 400:
            self.report.failures.append(f"{method}: {status} {body[:200]!r}")
        elif b'"release"' in body:
            release = json.loads(body)["release"]
            self.report.releases[release] += 1
            self.report.first.setdefault(release, ended)
        return headers.get("connection", "").lower() != "close"

    def _message(self, turn: int) -> tuple[str, bytes]:
        if turn % 4 == 0:
            body = json.dumps({"title": f"Item {turn}", "price": "9.99", "quantity": 1}).encode()
            head = (
                "POST /api/v1/items HTTP/1.1\r\n"
                f"Host: {self.site.name}\r\nAuthorization: Bearer {self.token}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            return "POST", head.encode() + body
        path = "/health" if turn % 2 else "/api/v1/items?limit=5"
        return "GET", f"GET {path} HTTP/1.1\r\nHost: {self.site.name}\r\n\r\n".encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Reads one answer with a Content-Length or a chunked body (RFC 9112, section 7.1)."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return status, headers, body
