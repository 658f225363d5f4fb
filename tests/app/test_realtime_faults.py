"""Live messages when something is slow, away, broken or hostile."""

import asyncio
import base64
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode

from tests.app.conftest import RunSql
from tests.app.live import (
    PROTOCOL,
    Worker,
    bearer,
    close_of,
    heard,
    hears_nothing,
    message_of,
    running_worker,
)
from tests.services import RedisServer, python_module, running_redis

UNREACHABLE, REACHABLE = "others_unreachable", "others_reachable"
StartWorker = Callable[..., Worker]


@pytest.fixture(scope="module")
def store() -> Iterator[RedisServer]:
    """A store of its own, which may be stopped."""
    with running_redis() as server:
        yield server


@pytest.fixture(scope="module")
def workers(
    empty_once: None,
    database_url: str,
    store: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Worker, Worker]]:
    folder = tmp_path_factory.mktemp("faults")
    common: dict[str, Any] = {
        "database_url": database_url,
        "cache_url": store.url,
        "websocket_queue": 50,
        "websocket_messages_per_second": 1000,
        "websocket_message_burst": 1000,
        "websocket_bytes_per_second": 1e9,
        "websocket_recheck_seconds": 60,
        "websockets_per_account": 100,
    }
    with (
        running_worker(folder / "one", **common) as one,
        running_worker(folder / "other", **common) as other,
    ):
        yield one, other


@pytest.fixture
def start_worker(empty_once: None, database_url: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Start one worker with settings of its own."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Worker:
            worker = running_worker(tmp_path / "alone", database_url=database_url, **settings)
            return stack.enter_context(worker)

        yield start


@pytest.mark.parametrize("fault", ["hangs", "is killed"])
async def test_without_the_store_sockets_stay_and_it_comes_back_unaided(
    workers: tuple[Worker, Worker], store: RedisServer, fault: str
) -> None:
    one, other = workers
    session = await one.session("ann")
    async with (
        one.joined("ann", session) as ann,
        one.joined("bob", session) as bob,
        other.joined("cid", session) as cid,
    ):
        unused = await one.ticket(session)
        unshared = await one.number("websocket_messages_unshared_total")
        with store.stopped() if fault == "hangs" else store.killed():
            if fault == "hangs":
                # Under way while nobody knows yet.
                await ann.send("hello")
                unshared += 1
                for client in (ann, bob):
                    assert await heard(client) == message_of("ann", "hello")
            for client in (ann, bob, cid):
                assert (await heard(client))["code"] == UNREACHABLE
            await ann.send("who is here?")
            for client in (ann, bob):
                assert await heard(client) == message_of("ann", "who is here?")
            await one.number_becomes("websocket_bus_up", 0)
            await one.number_becomes("websocket_messages_unshared_total", unshared + 1)
            async with one.client() as http:
                answer = await http.post("/api/v1/realtime/ticket", headers=bearer(session))
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
                assert (await http.get("/health")).status_code == 200
            with pytest.raises(InvalidStatus) as refusal:
                async with one.connect("late", unused):
                    pass
            assert refusal.value.response.status_code == 503
        for client in (ann, bob, cid):
            assert (await heard(client))["code"] == REACHABLE
        await one.number_becomes("websocket_bus_up", 1)
        await ann.send("again")
        for client in (ann, bob, cid):
            assert await heard(client) == message_of("ann", "again")
        async with one.joined("new", session):
            pass
        # The names are there again long before the next look at who is there.
        await store_has(store, "live:name:ann")
        somebody = await other.session(f"somebody-{fault.replace(' ', '-')}")
        with pytest.raises(InvalidStatus) as refusal:
            async with other.connect("ann", await other.ticket(somebody)):
                pass
        assert refusal.value.response.status_code == 409


async def store_has(store: RedisServer, key: str) -> None:
    """Wait until the store has a key."""
    async with Redis.from_url(store.url) as client:
        deadline = time.monotonic() + 5
        while not await client.exists(key):
            assert time.monotonic() < deadline, key
            await asyncio.sleep(0.05)


async def test_a_slow_reader_is_closed_and_delays_nobody(workers: tuple[Worker, Worker]) -> None:
    one = workers[0]
    session = await one.session("ann")
    async with (
        one.joined("slow", session, max_queue=1) as slow,
        one.joined("ann", session) as ann,
    ):
        slow.transport.pause_reading()
        longest = 0.0
        # More than the buffers of the system and the queue of the service hold.
        for _ in range(200):
            started = time.perf_counter()
            await ann.send("x" * 60_000)
            await heard(ann)
            longest = max(longest, time.perf_counter() - started)
        assert longest < 2
        slow.transport.resume_reading()
        assert await close_of(slow) == (1013, "You read too slowly: come back later.")
    await one.number_becomes('websocket_closes_total{code="1013"}', 1)
    await one.number_becomes("websockets_open", 0)


async def test_the_console_ends_sockets_at_once(
    workers: tuple[Worker, Worker], database_url: str, store: RedisServer, tmp_path: Path
) -> None:
    session = await workers[0].session("watched")
    async with AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(worker.joined("watched", session)) for worker in workers
        ]
        result = await asyncio.to_thread(
            python_module,
            "app.console",
            "end-sessions",
            "watched",
            APP_DATABASE_URL=database_url,
            APP_FILE_STORE="none",
            APP_CACHE_URL=store.url,
            APP_TOKEN_SECRET="s" * 40,
        )
        assert result.returncode == 0, result.stderr
        for socket in sockets:
            assert (await close_of(socket))[0] == 4401


async def test_on_a_release_clients_get_1012_and_nobody_is_told_that_they_left(
    workers: tuple[Worker, Worker], start_worker: StartWorker, store: RedisServer
) -> None:
    worker = await asyncio.to_thread(start_worker, cache_url=store.url)
    session = await worker.session("ann")
    async with workers[0].joined("ann", session) as stays:
        async with worker.joined("bob", session) as bob, worker.joined("cid", session) as cid:
            worker.process.terminate()
            for client in (bob, cid):
                assert (await close_of(client))[0] == 1012
        assert await asyncio.to_thread(worker.process.wait, 20) == -signal.SIGTERM
        assert await hears_nothing(stays)
    assert "Traceback" not in worker.log.read_text()


async def test_one_worker_alone_needs_no_store(start_worker: StartWorker) -> None:
    worker = await asyncio.to_thread(start_worker, websockets_per_account=2)
    ann, bob = await worker.session("ann"), await worker.session("bob")
    ticket = await worker.ticket(ann)
    async with worker.connect("ann", ticket) as first, worker.joined("bob", bob) as second:
        assert (await heard(first))["type"] == "connected"
        await first.send("hello")
        assert await heard(first) == await heard(second) == message_of("ann", "hello")
        async with worker.joined("more", ann):
            for session, name, status in ((ann, "x", 429), (bob, "ann", 409)):
                with pytest.raises(InvalidStatus) as refusal:
                    async with worker.connect(name, await worker.ticket(session)):
                        pass
                assert refusal.value.response.status_code == status
    with pytest.raises(InvalidStatus) as refusal:
        async with worker.connect("ann", ticket):
            pass
    assert refusal.value.response.status_code == 401


async def test_what_takes_too_long_ends(start_worker: StartWorker, sql: RunSql) -> None:
    worker = await asyncio.to_thread(
        start_worker,
        websocket_idle_seconds=1.5,
        websocket_ticket_seconds=1,
        websocket_recheck_seconds=0.2,
        websockets_per_worker=2,
    )
    session = await worker.session("ann")
    ticket = await worker.ticket(session)
    await asyncio.sleep(1.1)
    with pytest.raises(InvalidStatus) as refusal:
        async with worker.connect("late", ticket):
            pass
    assert refusal.value.response.status_code == 401
    async with worker.joined("ann", session) as silent, worker.joined("bob", session) as busy:
        with pytest.raises(InvalidStatus) as refusal:
            async with worker.connect("third", await worker.ticket(session)):
                pass
        assert refusal.value.response.status_code == 503
        for _ in range(8):
            await busy.send("still here")
            await asyncio.sleep(0.25)
        assert (await close_of(silent))[0] == 1001
        # Nobody has told that the account is not active any more: it is found out.
        await busy.send("still here")
        sql("UPDATE users SET is_active = false WHERE username = 'ann'")
        try:
            assert (await close_of(busy))[0] == 4401
        finally:
            sql("UPDATE users SET is_active = true WHERE username = 'ann'")


async def raw(worker: Worker, session: dict[str, Any], data: bytes, patience: float = 10) -> bytes:
    """Open a socket, send just these bytes, and return what comes until the server closes."""
    ticket = await worker.ticket(session)
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /ws/raw HTTP/1.1\r\nHost: 127.0.0.1:{worker.port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {PROTOCOL}, ticket.{ticket}\r\n\r\n".encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 101 "), head
    writer.write(data)
    answer = b""
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(patience):
            while some := await reader.read(65_536):
                answer += some
    writer.close()
    return answer


def frame(opcode: Opcode, data: bytes, **options: Any) -> bytes:
    return Frame(opcode, data, **options).serialize(mask=True)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(Opcode.TEXT, b"\xff\xfe"), 1007),
        (frame(Opcode.TEXT, b"\xc3", fin=False) + frame(Opcode.CONT, b"\x28"), 1007),
        (Frame(Opcode.TEXT, b"not masked").serialize(mask=False), 1002),
        (frame(Opcode.CONT, b"of nothing"), 1002),
        (b"\xc1\x80" + bytes(4), 1002),
        (b"\x81\xff" + (2**40).to_bytes(8, "big") + bytes(4), 1009),
        (frame(Opcode.TEXT, b"x" * 69_000, fin=False) + frame(Opcode.CONT, b"x" * 2000), 1009),
    ],
    # The masks are random, and would make other names in each process.
    ids=["no UTF-8", "no UTF-8 in two", "no mask", "no begin", "reserved", "announced", "long"],
)
async def test_frames_that_break_the_protocol_close_the_socket_with_its_code(
    workers: tuple[Worker, Worker], data: bytes, code: int
) -> None:
    answer = await raw(workers[0], await workers[0].session("raw"), data)
    assert b"\x88" in answer
    assert code.to_bytes(2, "big") in answer[answer.rindex(b"\x88") :]


@pytest.fixture(scope="module")
def raw_session(workers: tuple[Worker, Worker]) -> dict[str, Any]:
    return asyncio.run(workers[0].session("raw"))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(min_size=1, max_size=300))
def test_any_bytes_harm_nobody(
    workers: tuple[Worker, Worker], raw_session: dict[str, Any], data: bytes
) -> None:
    async def send() -> None:
        await raw(workers[0], raw_session, data + bytes(200), 0.3)
        async with workers[0].client() as client:
            assert (await client.get("/health")).status_code == 200

    asyncio.run(send())


def test_the_workers_have_met_nothing_unforeseen(workers: tuple[Worker, Worker]) -> None:
    for worker in workers:
        assert worker.lines("websocket.failed") == []
        assert "Traceback" not in worker.log.read_text()
