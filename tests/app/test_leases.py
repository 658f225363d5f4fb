"""The default limit by leases: what workers share, what they never let pass, what gets lost."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
from limits import parse

from app.errors import RateLimitedError
from app.leases import Leases
from app.limit_store import SCHEME, AwaitedStorage
from tests.app.conftest import StartApp
from tests.services import ROOT, RedisServer


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[AwaitedStorage]:
    storage = AwaitedStorage(SCHEME + redis_server.url)
    yield storage
    await storage.close()


async def passes(leases: Leases, who: str) -> bool:
    if leases.take(who, "endpoint"):
        return True
    try:
        await leases.ask(who, "endpoint")
    except RateLimitedError:
        return False
    return True


async def test_a_small_limit_is_exact(store: AwaitedStorage) -> None:
    workers = [Leases(parse("4/minute"), store) for _ in range(2)]
    assert [await passes(workers[number % 2], "exact") for number in range(6)] == [
        *[True] * 4,
        False,
        False,
    ]


async def test_workers_never_let_more_pass_and_lose_little(store: AwaitedStorage) -> None:
    workers = [Leases(parse("600/minute"), store) for _ in range(4)]
    passed = 0
    for number in range(700):
        passed += await passes(workers[number % 4], "shared")
    assert 600 - 4 * 11 <= passed <= 600


async def test_one_worker_loses_nothing(store: AwaitedStorage) -> None:
    leases = Leases(parse("600/minute"), store)
    assert sum([await passes(leases, "alone") for _ in range(650)]) == 600


async def test_requests_at_once_are_all_counted(store: AwaitedStorage) -> None:
    leases = Leases(parse("100/minute"), store)
    found = await asyncio.gather(*(passes(leases, "crowd") for _ in range(80)))
    assert all(found)
    assert sum([await passes(leases, "crowd") for _ in range(50)]) == 20


async def test_a_lease_ends_with_its_window(store: AwaitedStorage) -> None:
    leases = Leases(parse("200/second"), store)
    for _ in range(8):
        assert await passes(leases, "window")
    await asyncio.sleep(1.05)
    assert not leases.take("window", "endpoint")
    assert sum([await passes(leases, "window") for _ in range(100)]) == 100


async def test_a_caller_asks_the_store_seldom(
    start_app: StartApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    take = AwaitedStorage.take

    async def counted(self: AwaitedStorage, *arguments: object) -> object:
        asked.append(arguments)
        return await take(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(AwaitedStorage, "take", counted)
    client = await start_app(limit_default="600/minute")
    for _ in range(40):
        assert (await client.get("/api/v1/items")).status_code == 200
    assert len(asked) == 7


async def test_a_crowd_takes_no_more_from_other_workers_than_one_lease(
    store: AwaitedStorage,
) -> None:
    one, other = [Leases(parse("600/minute"), store) for _ in range(2)]
    for _ in range(20):
        assert await passes(one, "flock")
    assert all(await asyncio.gather(*(passes(one, "flock") for _ in range(100))))
    passed = sum([await passes(other, "flock") for _ in range(600)])
    assert 600 - 120 - 11 <= passed <= 600 - 120


async def test_who_waits_for_another_ones_question_is_not_lost_with_it(
    store: AwaitedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = Leases(parse("600/minute"), store)
    take, hangs = AwaitedStorage.take, True

    async def slow(self: AwaitedStorage, *arguments: object) -> object:
        if hangs:
            await asyncio.Event().wait()
        return await take(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(AwaitedStorage, "take", slow)
    first, second = [asyncio.create_task(passes(leases, "left alone")) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    hangs = False
    assert await second
    assert await passes(leases, "left alone")


async def test_of_a_crowd_over_the_limit_one_asks_until_the_window_ends(
    store: AwaitedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases, asked = Leases(parse("100/second"), store), 0
    take = AwaitedStorage.take

    async def slow(self: AwaitedStorage, *arguments: object) -> object:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.02)
        return await take(self, *arguments)  # type: ignore[arg-type]

    while await passes(leases, "refused"):
        pass
    monkeypatch.setattr(AwaitedStorage, "take", slow)
    assert not any(await asyncio.gather(*(passes(leases, "refused") for _ in range(50))))
    assert asked <= 1
    await asyncio.sleep(1.05)
    assert await passes(leases, "refused")


async def test_to_wait_for_others_is_not_to_wait_for_the_store(
    store: AwaitedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = Leases(parse("100/minute"), store, patience=0.3)
    take = AwaitedStorage.take

    async def slow(self: AwaitedStorage, *arguments: object) -> object:
        await asyncio.sleep(0.05)
        return await take(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(AwaitedStorage, "take", slow)
    # More questions, one after the other, than there is patience for one.
    found = await asyncio.gather(*(passes(leases, "patient") for _ in range(60)))
    assert all(found)


async def test_who_waits_for_a_store_that_hangs_waits_as_long_as_who_asks(
    store: AwaitedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases, asked = Leases(parse("600/minute"), store, patience=0.2), 0

    async def hangs(self: AwaitedStorage, *arguments: object) -> object:
        nonlocal asked
        asked += 1
        return await asyncio.Event().wait()

    monkeypatch.setattr(AwaitedStorage, "take", hangs)
    crowd = (passes(leases, "hung") for _ in range(40))
    found = await asyncio.gather(*crowd, return_exceptions=True)
    assert {type(one) for one in found} == {TimeoutError}
    assert asked == 1


@pytest.mark.parametrize("limit", [60, 600])
def test_two_processes_in_a_rush_let_no_more_pass_and_lose_little(
    redis_server: RedisServer, limit: int
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "STORE": redis_server.url,
        # A name of its own for each limit, whose counters do not meet.
        "LIMIT": f"{limit}/hour",
        "TIMES": "20",
        "AT_ONCE": "25",
    }
    command = [sys.executable, "-m", "tests.app.leases_for_tests"]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(2)
        ]
        for worker in workers:
            assert worker.stdout
            assert worker.stdout.readline() == "ready\n"
        outputs = []
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("\n")
            worker.stdin.flush()
        for worker in workers:
            output, _ = worker.communicate(timeout=60)
            outputs.append(int(output))
    assert limit - 2 * 11 <= sum(outputs) <= limit
