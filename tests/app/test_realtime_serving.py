"""WebSockets under Gunicorn, with the worker that the role installs."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode

from deploy.logged import ROOT
from tests.app.live import Worker, close_of, gunicorn, heard, message_of, running_worker
from tests.services import RedisServer

SPREAD, SOCKETS = 2, 20


@pytest.fixture
def service(
    empty_once: None, database_url: str, redis_server: RedisServer, tmp_path: Path
) -> Iterator[Worker]:
    environment = {
        "SLIPWAY_WEBSOCKET_SPREAD_SECONDS": str(SPREAD),
        "SLIPWAY_WEBSOCKET_PING_SECONDS": "1",
        "SLIPWAY_WEBSOCKET_BYTES": "5000",
        "SLIPWAY_DRAIN_SECONDS": "10",
    }
    with running_worker(
        tmp_path / "gunicorn",
        gunicorn,
        environment,
        database_url=database_url,
        cache_url=redis_server.url,
        websockets_per_account=SOCKETS,
    ) as worker:
        yield worker


async def closed_at(client: ClientConnection) -> float:
    assert (await close_of(client))[0] == 1012
    return time.monotonic()


async def test_a_release_closes_them_one_after_the_other(service: Worker) -> None:
    session = await service.session("crowd")
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                service.joined(f"c{number}", session, compression="deflate")
            )
            for number in range(SOCKETS)
        ]
        assert all(client.protocol.extensions == [] for client in clients)
        # On whichever of both workers they are.
        await clients[0].send("all aboard")
        for client in clients:
            assert await heard(client) == message_of("c0", "all aboard")
        assert await service.number("websockets_open") == SOCKETS
        assert await service.number("websocket_bus_up") == 1
        # Both workers are asked whether they are there, and their clients are.
        await asyncio.sleep(2.5)
        service.process.terminate()
        times = sorted(await asyncio.gather(*map(closed_at, clients)))
    assert SPREAD / 2 < times[-1] - times[0] < SPREAD + 2
    assert await asyncio.to_thread(service.process.wait, 20) == 0
    assert "Traceback" not in service.log.read_text()


# Of the large one most is still under way when the server has seen enough.
@pytest.mark.parametrize("size", [5001, 10_000_000])
async def test_the_server_reads_no_more_than_it_was_told(service: Worker, size: int) -> None:
    async with service.joined("ann", await service.session("ann")) as client:
        await client.send("x" * size)
        assert (await close_of(client))[0] == 1009
    await service.number_becomes("websockets_open", 0)


def test_a_service_without_websockets_needs_no_library_for_them() -> None:
    code = (
        "import sys\nsys.modules['websockets'] = None\nimport slipway_worker\n"
        "print(slipway_worker.DrainingWorker.CONFIG_KWARGS['ws'])"
    )
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(ROOT / "roles/app/files")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("auto\n", "")


async def test_a_client_that_answers_no_ping_is_closed(service: Worker) -> None:
    async with service.joined("mute", await service.session("ann")) as client:
        client.transport.pause_reading()
        await service.number_becomes("websockets_open", 0)
        client.transport.resume_reading()
        assert (await close_of(client))[0] == 1011
    # The server below keeps it to itself; docs/live-messages.md says so.
    await service.number_becomes('websocket_closes_total{code="1005"}', 1)


TEXT, CONT, PING, PONG = Opcode.TEXT, Opcode.CONT, Opcode.PING, Opcode.PONG


@pytest.mark.parametrize(
    ("first", "opcode", "fin"),
    [(None, PING, True), (None, PONG, True), (TEXT, CONT, False), (None, TEXT, True)],
    ids=["pings", "pongs", "fragments", "texts"],
)
async def test_a_flood_of_empty_frames_is_closed_and_keeps_nobody_waiting(
    service: Worker, first: Opcode | None, opcode: Opcode, fin: bool
) -> None:
    session = await service.session("flooder")
    begin = Frame(first, b"", fin=False).serialize(mask=True) if first else b""
    flood = begin + Frame(opcode, b"", fin=fin).serialize(mask=True) * 100_000
    longest, ended = 0.0, asyncio.Event()

    async def others() -> None:
        nonlocal longest
        async with service.client() as client:
            while not ended.is_set():
                started = time.monotonic()
                assert (await client.get("/health")).status_code == 200
                longest = max(longest, time.monotonic() - started)

    watching = asyncio.create_task(others())
    async with AsyncExitStack() as stack:
        # Some of them on either worker.
        for number in range(4):
            flooder = await stack.enter_async_context(service.joined(f"f{number}", session))
            flooder.transport.write(flood)
            assert (await close_of(flooder))[0] == 1008
            flooder.transport.abort()
    ended.set()
    await watching
    # Generous, for a machine with much else to do.
    assert longest < 3
    await service.number_becomes("websockets_open", 0)
    assert "Traceback" not in service.log.read_text()


async def test_fragments_of_a_few_messages_pass_as_they_were_sent(service: Worker) -> None:
    async with service.joined("ann", await service.session("ann")) as client:
        for _ in range(3):
            await client.send(["x" * 100] * 40)
            assert await heard(client) == message_of("ann", "x" * 4000)
        # All of it in one read, with a ping between.
        frames = [
            Frame(Opcode.TEXT, b"y" * 3000),
            Frame(Opcode.PING, b"there?"),
            Frame(Opcode.TEXT, b"z" * 3000),
            Frame(Opcode.TEXT, b"end"),
        ]
        client.transport.write(b"".join(frame.serialize(mask=True) for frame in frames))
        for text in ("y" * 3000, "z" * 3000, "end"):
            assert await heard(client) == message_of("ann", text)
