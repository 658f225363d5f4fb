"""The server of the draining worker, whose WebSockets are in a state of their own."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from slipway_websockets import BoundedWebSocket
from slipway_worker import DrainingServer, DrainingWorker
from tests.app.live import close_of

# More than the system takes of it for a client that does not read.
LARGE = "x" * 32_000_000
TOO_LATE: list[Exception] = []


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Send much to those who ask for it, and wait for the end."""
    assert scope["type"] == "websocket"
    await send({"type": "websocket.accept"})
    if scope["path"] == "/much":
        await send({"type": "websocket.send", "text": LARGE})
    while (await receive())["type"] != "websocket.disconnect":
        pass
    if scope["path"] == "/late":
        try:
            await send({"type": "websocket.send", "text": "too late"})
        except Exception as error:  # noqa: BLE001 - the test says which it is
            TOO_LATE.append(error)


class Serving:
    """The server, and how to reach it."""

    def __init__(self) -> None:
        config = Config(
            application,
            ws=BoundedWebSocket,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=2,
        )
        worker = SimpleNamespace(config=config, notify=lambda: None, cfg=SimpleNamespace(workers=1))
        self.server = DrainingServer(cast("DrainingWorker", worker))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.task = asyncio.create_task(self.server.serve(sockets=[self.listener]))

    def connect(self, path: str, **options: Any) -> connect:
        port = self.listener.getsockname()[1]
        return connect(f"ws://127.0.0.1:{port}{path}", compression=None, **options)

    def connections(self) -> list[Any]:
        return list(self.server.server_state.connections)

    async def stop(self) -> None:
        """Stop as a worker does; what goes wrong is raised."""
        self.server.should_exit = True
        async with asyncio.timeout(20):
            await self.task


@asynccontextmanager
async def serving(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    monkeypatch.setenv("SLIPWAY_WEBSOCKET_SPREAD_SECONDS", "0.2")
    monkeypatch.setenv("SLIPWAY_DRAIN_SECONDS", "1")
    one = Serving()
    try:
        async with asyncio.timeout(20):
            while not one.server.started:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield one
    finally:
        one.server.should_exit = one.server.force_exit = True
        await asyncio.gather(one.task, return_exceptions=True)


async def becomes_closing(one: Serving) -> None:
    """Wait until the server has read a goodbye that it cannot finish."""
    async with asyncio.timeout(20):
        while not any(found.transport.is_closing() for found in one.connections()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_websocket_that_is_just_closing_does_not_break_the_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(monkeypatch) as one:
        staying = [await one.connect("/") for _ in range(5)]
        leaving = await one.connect("/much", max_size=None, max_queue=1)
        leaving.transport.pause_reading()
        leaving.transport.write(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
        await becomes_closing(one)
        hearing = [asyncio.create_task(close_of(client)) for client in staying]
        stopping = asyncio.create_task(one.stop())
        assert {code for code, _ in await asyncio.gather(*hearing)} == {1012}
        leaving.transport.abort()
        await stopping


async def test_a_websocket_that_cannot_be_closed_is_cut_and_the_others_hear_of_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError

    async with serving(monkeypatch) as one:
        broken = await one.connect("/")
        (connection,) = one.connections()
        connection.shutdown = fail
        staying = [await one.connect("/") for _ in range(5)]
        hearing = [asyncio.create_task(close_of(client)) for client in staying]
        await one.stop()
        assert {code for code, _ in await asyncio.gather(*hearing)} == {1012}
        await asyncio.wait_for(broken.wait_closed(), 20)
    assert "could not be closed" in caplog.text


HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: quay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.mark.parametrize(
    "rest",
    ["Content-Length: 1\r\n\r\nx", "X-A: b\r\n" * 200 + "\r\n"],
    ids=["a body", "too many headers"],
)
async def test_what_can_open_no_websocket_is_answered_and_closed(
    monkeypatch: pytest.MonkeyPatch, rest: str
) -> None:
    async with serving(monkeypatch) as one:
        port = one.listener.getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((HANDSHAKE + rest).encode())
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b"\r\n\r\nThis request opens no WebSocket.\n")
        writer.close()
        await one.stop()


async def test_what_is_sent_after_a_failure_finds_the_client_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    TOO_LATE.clear()
    async with serving(monkeypatch) as one:
        client = await one.connect("/late")
        # An opcode that is reserved.
        client.transport.write(b"\x83\x80\0\0\0\0")
        assert (await close_of(client))[0] == 1002
        async with asyncio.timeout(20):
            while not TOO_LATE:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    # As of a connection that is lost (ASGI, websocket.send).
    assert [isinstance(error, OSError) for error in TOO_LATE] == [True]
