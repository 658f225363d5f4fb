"""What one account may say in bytes: it closes nobody else, on no worker."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, cast

import orjson
import pytest
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from app.cache import Cache
from app.error_reports import ErrorReports
from app.realtime.bus import Bus, Hears
from app.settings import Settings
from tests.app.conftest import SECRET
from tests.app.live import Worker, close_of, heard, running_worker
from tests.services import RedisServer

# It takes six bytes where it is sent, twice.
LONG = "\x01" * 60_000
PLAIN = "x" * 60_000


@pytest.fixture(scope="module")
def workers(
    empty_once: None,
    database_url: str,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Worker, Worker]]:
    common: dict[str, Any] = {"database_url": database_url, "cache_url": redis_server.url}
    folder = tmp_path_factory.mktemp("bytes")
    with (
        running_worker(folder / "one", **common) as one,
        running_worker(folder / "other", **common) as other,
    ):
        yield one, other


async def say(clients: list[ClientConnection], text: str, times: int) -> None:
    """Say a text on all sockets in one instant, again and again, until they are closed."""

    async def on(client: ClientConnection) -> None:
        try:
            for _ in range(times):
                await client.send(text)
        except ConnectionClosed:
            return

    await asyncio.gather(*map(on, clients))


async def hears_until(client: ClientConnection, text: str) -> None:
    while (await heard(client)).get("content") != text:
        pass


@pytest.mark.parametrize("text", [LONG, PLAIN], ids=["escaped", "plain"])
async def test_one_account_closes_nobody_else(workers: tuple[Worker, Worker], text: str) -> None:
    loud, quiet = await workers[0].session("loud"), await workers[0].session("quiet")
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(one.joined("q", quiet)) for one in workers]
        ears = [asyncio.create_task(hears_until(one, "still here")) for one in listeners]
        crowd = [
            await stack.enter_async_context(workers[0].joined(f"l{number}", loud))
            for number in range(10)
        ]
        await say(crowd, text, 4)
        assert (await close_of(crowd[0]))[0] == 1008
        await listeners[0].send("still here")
        await asyncio.gather(*ears)


async def test_of_many_accounts_who_speak_in_one_instant_all_are_heard(
    workers: tuple[Worker, Worker],
) -> None:
    async with AsyncExitStack() as stack:
        crowd = []
        for number in range(16):
            session = await workers[0].session(f"crowd{number}")
            joined = workers[0].joined(f"c{number}", session)
            crowd.append(await stack.enter_async_context(joined))
        listener = await workers[1].session("listener")
        heard_there = await stack.enter_async_context(workers[1].joined("there", listener))
        ears = [
            asyncio.create_task(hears_until(one, "that was all")) for one in [*crowd, heard_there]
        ]
        await say(crowd, PLAIN, 2)
        await asyncio.sleep(1)
        await crowd[0].send("that was all")
        await asyncio.gather(*ears)


class _Store:
    configured = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def publish(self, channel: str, payload: bytes) -> None:
        del channel
        self.sent.append(payload)


async def test_what_waits_for_the_store_and_what_it_carries_at_once_is_bounded_in_bytes() -> None:
    store = _Store()
    settings = Settings(environment="development")
    bus = Bus(settings, cast("Cache", store), cast("Hears", None), ErrorReports())
    bus.up = True
    for _ in range(100):
        bus.publish("x" * 100_000, 100_000)
    sending = asyncio.create_task(bus._send())
    await asyncio.sleep(0.1)
    sending.cancel()
    texts = [text for one in store.sent for text in orjson.loads(one[9:])]
    assert len(texts) == 4 * 1024 * 1024 // 100_000
    assert max(map(len, store.sent)) < 300_000
    # There is room again.
    bus.publish("again", 5)
    assert bus._some() == ["again"]


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"websocket_byte_burst": 100_000}, "APP_WEBSOCKET_BYTE_BURST to 132096"),
        ({"websocket_queue_bytes": 700_000}, "APP_WEBSOCKET_QUEUE_BYTES to 786432"),
        ({"websocket_message_bytes": 1_000_000}, "APP_WEBSOCKET_BYTE_BURST"),
    ],
)
def test_settings_with_which_one_client_could_close_all_are_refused(
    said: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValidationError, match=named):
        Settings(environment="development", token_secret=SECRET, **said)
