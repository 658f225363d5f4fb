"""The order of things around one key of the cache: whatever it is, nobody reads what is too old.

Two workers of the service read and change one item, step by step as Hypothesis says, on the real
Redis and database (`tests.app.orders`). The cache may fail at each question that it is asked,
processes and clients may go away at each step, and time may pass.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import cached, log
from app.db import Database
from app.settings import Settings
from tests.app.conftest import empty_stores
from tests.app.orders import LEASE_SECONDS, Verdict, World, version_of
from tests.services import PostgreSQL, RedisServer

EXAMPLES = int(os.environ.get("SLIPWAY_EXAMPLES", "120"))
SECONDS = 30
# Longer than a lease, than an entry, than a fence.
PAUSES = (0.3, LEASE_SECONDS + 1, SECONDS + LEASE_SECONDS + 1, 61)
# A transaction ends by a time-out before its fence does.
LONGEST_WRITE = 55
WRITES, READS_AT_ONCE = 4, 4

# They go through the same lines again and again, and take half as long again when each is counted.
pytestmark = pytest.mark.no_cover

Servers = tuple[Settings, Database, redis.asyncio.Redis]


@pytest.fixture(scope="module")
async def servers(
    postgresql: PostgreSQL,
    redis_server: RedisServer,
    settings_with: Callable[..., Settings],
) -> AsyncIterator[Servers]:
    """One item of one account, and the ways to it."""
    await empty_stores(postgresql, redis_server)
    await asyncio.to_thread(
        postgresql.execute,
        "INSERT INTO users (username, email, password_hash) VALUES ('ann', 'a@example.com', '');"
        "INSERT INTO items (owner_id, title, price) VALUES (1, 'Lamp', 1)",
        "harbour",
    )
    # The tests say when the cache fails, not the machine.
    chosen = settings_with(cache_timeout=30, cache_seconds=SECONDS, log_level="ERROR")
    log.configure(chosen)
    database = Database(chosen)
    store = redis.asyncio.Redis(unix_socket_path=str(redis_server.socket))
    yield chosen, database, store
    await store.aclose()
    await database.close()


class Orders:
    """What happens next, as Hypothesis draws it."""

    def __init__(self, world: World, data: st.DataObject) -> None:
        self._world = world
        self._data = data

    def choose(self, *choices: str) -> str:
        """Choose a step."""
        return self._data.draw(st.sampled_from(choices))

    async def step(self, *kinds: str) -> None:
        """Do one of these steps, if it is possible now."""
        world = self._world
        kind = self.choose(*kinds)
        worker = world.workers[self._data.draw(st.integers(0, 1))] if kind != "open" else None
        reading = [one for one in world.reads if not one.task.done()]
        if kind == "open" and world.gates:
            place = self._data.draw(st.integers(0, len(world.gates) - 1))
            world.open(world.gates[place])
        elif kind == "fail" and (asked := [gate for gate in world.gates if gate.may_fail]):
            how: Verdict = self._data.draw(st.sampled_from(("refused", "lost")))
            world.open(asked[self._data.draw(st.integers(0, len(asked) - 1))], how)
        elif kind == "read" and worker and len(reading) < READS_AT_ONCE:
            world.read(worker)
        elif kind == "write" and worker and not world.writing and len(world.writes) < WRITES:
            world.write(worker)
        elif kind == "time":
            await self._pass_time()
        elif kind == "leave" and (under_way := reading or [one for one in (world.writing,) if one]):
            await world.leave(under_way[0])
        elif kind == "kill" and worker:
            await world.kill(worker)
        elif kind == "evict":
            await world.evict()
        elif kind == "jobs":
            await world.do_jobs()
        await world.settle()
        await world.check_kept()
        assert world.stale == []

    async def _pass_time(self) -> None:
        seconds = self._data.draw(st.sampled_from(PAUSES))
        writing = self._world.writing
        if writing is None or self._world.now + seconds < writing.began + LONGEST_WRITE:
            await self._world.pass_time(seconds)

    async def end(self) -> None:
        """Let everything come to its end, and look at what is left."""
        world = self._world
        while world.gates:
            world.open(world.gates[0])
            await world.settle()
            assert world.stale == []
        for actor in (*world.reads, *world.writes):
            if not actor.task.cancelled():
                await actor.task
        await world.do_jobs()
        stored, kept = await world.stored(), await world.kept()
        assert stored >= world.confirmed
        if kept is not None and kept.startswith(b"="):
            assert version_of(kept) == stored
        for worker in (*world.workers, *world.workers):
            world.read(worker)
            await world.settle()
            while world.gates:
                world.open(world.gates[0])
                await world.settle()
            assert world.reads[-1].version == stored


@asynccontextmanager
async def fresh_world(
    servers: Servers,
) -> AsyncIterator[World]:
    """Begin with an item that nobody has changed, an empty cache and a clock that stands still."""
    chosen, database, store = servers
    await store.flushall()
    async with database.writing() as session:
        connection = await session.connection()
        for statement in ("UPDATE items SET quantity = 0", "DELETE FROM procrastinate_jobs"):
            await connection.exec_driver_sql(statement)
    world = World(chosen, database, store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cached, "time", world)
        patch.setattr(cached, "_WAIT_STEP", 0)
        try:
            yield world
        finally:
            for worker in world.workers:
                await worker.kill()


async def go(world: World, name: str | None = None, verdict: Verdict = "good") -> None:
    """Open the gate of a name; without one, open whatever gate there is until none is left."""
    await world.settle()
    while gates := [gate for gate in world.gates if name in {None, gate.name}]:
        world.open(gates[0], verdict)
        await world.settle()
        if name is not None:
            return
    assert name is None, f"Nobody stands before {name}, but {[gate.name for gate in world.gates]}."


async def follow(servers: Servers, data: st.DataObject, *kinds: str) -> None:
    """Let a fresh world go on, with troubles of these kinds, and come to its end."""
    async with fresh_world(servers) as world:
        orders = Orders(world, data)
        # Of few kinds of trouble at a time more comes together than of all of them.
        troubles = data.draw(st.sets(st.sampled_from(sorted(kinds)), max_size=2))
        for _ in range(data.draw(st.integers(5, 60))):
            await orders.step(*USUAL, *sorted(troubles))
        await orders.end()


USUAL = ("open", "open", "open", "open", "open", "open", "read", "write")
CHECKS = settings(
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=[
        HealthCheck.differing_executors,
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ],
)


@CHECKS
@given(data=st.data())
async def test_no_order_gives_back_what_is_older_than_the_own_write(
    servers: Servers, data: st.DataObject
) -> None:
    await follow(servers, data, "time", "leave")


@CHECKS
@given(data=st.data())
async def test_neither_does_a_cache_that_fails_or_a_process_that_dies(
    servers: Servers, data: st.DataObject
) -> None:
    await follow(servers, data, "fail", "time", "kill", "jobs")


@CHECKS
@given(data=st.data())
async def test_neither_does_a_cache_that_is_short_of_memory(
    servers: Servers, data: st.DataObject
) -> None:
    await follow(servers, data, "evict", "time", "leave")


READS = {"take", "load", "replace", "remove", "get"}
# A read that finds nothing has three steps, one that finds something has one, a change has four.
STEPS_OF_CHANGE = 4
Trouble = Verdict | Literal["kill", "evict"]
TROUBLES: tuple[Trouble, ...] = ("good", "refused", "lost", "kill", "evict")


def orders(reads: int) -> Iterator[tuple[bool, ...]]:
    """All orders of the steps of a read and of a change; true is a step of the read."""
    steps = reads + STEPS_OF_CHANGE
    for places in itertools.combinations(range(steps), reads):
        yield tuple(step in places for step in range(steps))


async def meet(world: World, order: tuple[bool, ...], place: int, trouble: Trouble) -> bool:
    """Let a read and a change go on in an order, one step of which meets some trouble.

    Returns:
        Whether there was anything that the trouble could befall.
    """
    for step, of_read in enumerate(order):
        gates = [gate for gate in world.gates if (gate.name in READS) == of_read] or world.gates
        now = trouble if step == place else "good"
        if not gates or (now in {"refused", "lost"} and not gates[0].may_fail):
            return step > place
        if now == "kill":
            await world.kill(gates[0].worker)
        elif now == "evict":
            if await world.kept() is None:
                return False
            await world.evict()
            world.open(gates[0])
        else:
            world.open(gates[0], now)
        await world.settle()
        await world.check_kept()
        assert world.stale == []
    return True


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "known"])
@pytest.mark.parametrize("other", [0, 1], ids=["one worker", "two workers"])
async def test_one_read_and_one_change_in_each_order_with_each_trouble(
    servers: Servers, known: bool, other: int
) -> None:
    for order in orders(1 if known else 3):
        for place, trouble in itertools.product(range(len(order)), TROUBLES):
            if trouble == "good" and place:
                continue
            async with fresh_world(servers) as world:
                if known:
                    world.read(world.workers[0])
                    await go(world)
                world.read(world.workers[0])
                world.write(world.workers[other])
                await world.settle()
                if not await meet(world, order, place, trouble):
                    continue
                await go(world)
                for worker in world.workers:
                    world.read(worker)
                    await go(world)
                # What is allowed to be old is so no longer than the bound.
                await world.pass_time(world.bound + 1)
                for worker in world.workers:
                    world.read(worker)
                    await go(world)
                    assert world.reads[-1].version == await world.stored()
                assert world.stale == [], (order, place, trouble)


async def test_a_worker_whose_change_was_not_fenced_waits_from_its_commit_on(
    servers: Servers,
) -> None:
    async with fresh_world(servers) as world:
        one, other = world.workers
        world.write(one)
        await go(world, "begin")
        await go(world, "put", "refused")
        # As long as the worker would have done without the cache since then.
        await world.pass_time(SECONDS + LEASE_SECONDS + 1)
        world.read(other)
        await go(world, "take")
        await go(world, "load")
        await go(world, "commit")
        await go(world, "forget", "refused")
        # Right before its lease ends, what was true before the commit comes in for its whole time.
        await world.pass_time(LEASE_SECONDS - 1)
        await go(world, "replace")
        await world.pass_time(SECONDS - 1)
        assert (await world.kept() or b"").startswith(b"=")
        world.read(one)
        await go(world)
        assert world.stale == []
        assert world.reads[-1].version == world.confirmed == 1
        await world.do_jobs()
        assert await world.kept() is None


@pytest.mark.parametrize(
    ("fencing", "end"), [("good", "remove_for"), ("refused", "forget")], ids=["fenced", "unfenced"]
)
async def test_the_end_of_a_change_leaves_the_fence_of_the_next_one(
    servers: Servers, fencing: Verdict, end: str
) -> None:
    async with fresh_world(servers) as world:
        one, other = world.workers
        world.write(one)
        await go(world, "begin")
        await go(world, "put", fencing)
        await go(world, "commit")
        world.write(other)
        await go(world, "begin")
        await go(world, "put")
        await go(world, end)
        assert (await world.kept() or b"").startswith(b"!")
        # Nobody fills in what is about to change, and nobody is left to take it away.
        world.read(other)
        await go(world, "take")
        await go(world, "load")
        await go(world, "commit")
        await world.kill(other)
        for worker in world.workers:
            world.read(worker)
            await go(world)
            assert world.reads[-1].version == await world.stored() == 2
        assert world.stale == []
