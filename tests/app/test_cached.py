"""Reads by way of the cache: fast, shared, and never older than what the reader has written."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.cached import forget, key_of
from app.db import Database
from app.entities import Entity
from app.jobs.handlers import JobResources
from app.mail import Mailer
from tests.app.conftest import Login, RunSql, StartApp, log_in, register
from tests.services import PostgreSQL, RedisServer, running_redis
from tests.statements import recorded

LAMP: dict[str, Any] = {"title": "Lamp", "description": "", "price": "19.99", "quantity": 0}


async def number(client: httpx.AsyncClient, name: str) -> float:
    """A number of `/metrics`, as whoever watches the service reads it."""
    lines = (await client.get("/metrics")).text.splitlines()
    found = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")]
    return float(found[0]) if found else 0.0


async def outcome(client: httpx.AsyncClient, name: str) -> float:
    """How many reads of items have ended so."""
    return await number(client, f'cache_reads_total{{kind="item",outcome="{name}"}}')


async def made(client: httpx.AsyncClient, name: str = "ann") -> tuple[str, dict[str, str]]:
    """An item of a new account, and the header that may change it."""
    await register(client, name)
    token = (await log_in(client, name)).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = await client.post("/api/v1/items", json=LAMP, headers=headers)
    assert answer.status_code == 201, answer.text
    return f"/api/v1/items/{answer.json()['id']}", headers


async def kept(server: RedisServer, kind: str = "item", thing_id: int = 1) -> bytes | None:
    client = redis.asyncio.Redis(unix_socket_path=str(server.socket))
    try:
        found: Any = await client.get(key_of(kind, thing_id))
    finally:
        await client.aclose()
    return bytes(found) if found is not None else None


async def test_the_second_read_asks_the_database_for_nothing(
    start_app: StartApp, postgresql: PostgreSQL
) -> None:
    with recorded(postgresql) as statements:
        client = await start_app(cache_timeout=5)
        path, _ = await made(client)
        first = await client.get(path)
        before = await outcome(client, "hit")
        statements.new()
        second = await client.get(path)
        unchanged = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert statements.new() == []
    assert (second.content, second.headers["etag"]) == (first.content, first.headers["etag"])
    assert unchanged.status_code == 304
    assert await outcome(client, "hit") - before == 2


async def test_a_change_is_seen_at_once_by_every_worker(start_app: StartApp) -> None:
    one, other = await start_app(cache_timeout=5), await start_app(cache_timeout=5)
    path, headers = await made(one)
    for number in range(1, 20):
        await asyncio.gather(one.get(path), other.get(path))
        changed = await one.patch(path, json={"quantity": number}, headers=headers)
        for client in (other, one):
            found = await client.get(path)
            assert found.json()["quantity"] == number
            assert found.headers["etag"] == changed.headers["etag"]
    assert (await one.delete(path, headers=headers)).status_code == 204
    assert (await other.get(path)).status_code == 404


@pytest.mark.parametrize("seed", range(3))
async def test_nobody_reads_what_is_older_than_the_own_write(
    start_app: StartApp, seed: int
) -> None:
    workers = [await start_app(cache_timeout=5), await start_app(cache_timeout=5)]
    path, headers = await made(workers[0])
    chance = random.Random(seed)
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(12):
            worker = chance.choice(workers)
            number = written + 1
            answer = await worker.patch(path, json={"quantity": number}, headers=headers)
            assert answer.status_code == 200
            written = number
            await asyncio.sleep(chance.random() * 0.01)

    async def read(done: asyncio.Event) -> int:
        reads = 0
        while not done.is_set():
            # Whatever was answered before the request began must be in what it finds.
            least = written
            found = (await chance.choice(workers).get(path)).json()["quantity"]
            assert found >= least
            reads += 1
            await asyncio.sleep(chance.random() * 0.002)
        return reads

    done = asyncio.Event()
    readers = [asyncio.create_task(read(done)) for _ in range(8)]
    await write()
    done.set()
    assert sum(await asyncio.gather(*readers)) > 50


async def test_a_change_that_is_rolled_back_leaves_the_old_state(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    headers = await login("ann")
    answer = await client.post("/api/v1/items", json=LAMP, headers=headers)
    path = f"/api/v1/items/{answer.json()['id']}"
    await client.get(path)
    sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'refused at commit'; END $$;"
        "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON items "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    try:
        refused = await client.patch(path, json={"quantity": 7}, headers=headers)
    finally:
        sql("DROP TRIGGER refuse ON items; DROP FUNCTION refuse()")
    assert refused.status_code == 500
    assert (await client.get(path)).json()["quantity"] == 0


async def test_what_was_loaded_before_a_change_does_not_come_in_after_it(
    start_app: StartApp, redis_server: RedisServer
) -> None:
    client = await start_app()
    path, headers = await made(client)
    cached = client.application.state.resources.cached  # type: ignore[attr-defined]
    loading, loaded = asyncio.Event(), asyncio.Event()

    async def slow() -> Entity:
        loading.set()
        await loaded.wait()
        return Entity.of({"quantity": "as it was"})

    reading = asyncio.create_task(cached.read("item", 1, slow))
    await loading.wait()
    assert (await client.patch(path, json={"quantity": 8}, headers=headers)).status_code == 200
    loaded.set()
    await reading
    assert (await client.get(path)).json()["quantity"] == 8
    assert b"as it was" not in (await kept(redis_server) or b"")


async def test_a_writer_that_was_killed_before_its_commit_blocks_nobody(
    start_app: StartApp, redis_server: RedisServer
) -> None:
    client = await start_app()
    path, headers = await made(client)
    store = redis.asyncio.Redis(unix_socket_path=str(redis_server.socket))
    await store.set(key_of("item", 1), b"!somebody", px=60_000)
    before = await outcome(client, "bypass")
    assert (await client.get(path)).status_code == 200
    assert await outcome(client, "bypass") - before == 1
    assert await store.get(key_of("item", 1)) == b"!somebody"
    assert (await client.patch(path, json={"quantity": 1}, headers=headers)).status_code == 200
    await store.aclose()
    assert 0 < await ttl(redis_server) <= 60_000 or await kept(redis_server) is None


async def test_a_fence_that_was_evicted_lets_nothing_old_stay(
    start_app: StartApp, redis_server: RedisServer
) -> None:
    client = await start_app()
    await made(client)
    cache = client.application.state.resources.cache  # type: ignore[attr-defined]
    key = key_of("item", 1)
    for found, stays in ((b"=old", False), (b"?lease", False), (b"!other", True), (b"!own", False)):
        await cache.put(key, found, 60)
        await cache.remove_for(key, b"!own")
        assert (await kept(redis_server) is not None) == stays, found


async def ttl(server: RedisServer) -> int:
    client = redis.asyncio.Redis(unix_socket_path=str(server.socket))
    try:
        return int(await client.pttl(key_of("item", 1)))
    finally:
        await client.aclose()


async def test_of_many_who_miss_at_once_one_loads(
    start_app: StartApp, postgresql: PostgreSQL
) -> None:
    with recorded(postgresql) as statements:
        workers = [await start_app(cache_timeout=5), await start_app(cache_timeout=5)]
        path, _ = await made(workers[0])
        for worker in workers:
            await worker.get("/api/v1/items")
        statements.new()
        answers = await asyncio.gather(*(workers[n % 2].get(path) for n in range(50)))
        asked = statements.new()
    assert {answer.status_code for answer in answers} == {200}
    assert len(asked) == 1


async def test_a_load_that_fails_fails_for_those_who_wait_and_for_nobody_after(
    start_app: StartApp,
) -> None:
    client = await start_app()
    cached = client.application.state.resources.cached  # type: ignore[attr-defined]

    async def fails() -> Entity:
        await asyncio.sleep(0.05)
        raise RuntimeError("no such luck")

    tries = [cached.read("item", 5, fails) for _ in range(5)]
    assert {type(one) for one in await asyncio.gather(*tries, return_exceptions=True)} == {
        RuntimeError
    }

    async def works() -> Entity:
        return Entity.of({"fine": True})

    assert await cached.read("item", 5, works) == Entity.of({"fine": True})


async def test_a_caller_who_goes_away_takes_nobodys_answer_along(start_app: StartApp) -> None:
    client = await start_app()
    cached = client.application.state.resources.cached  # type: ignore[attr-defined]
    begun = asyncio.Event()

    async def load() -> Entity:
        begun.set()
        await asyncio.sleep(0.05)
        return Entity.of({"fine": True})

    first = asyncio.create_task(cached.read("item", 6, load))
    await begun.wait()
    second = asyncio.create_task(cached.read("item", 6, load))
    await asyncio.sleep(0.01)
    first.cancel()
    assert await second == Entity.of({"fine": True})


Breaking = Callable[[RedisServer, redis.asyncio.Redis], Awaitable[None]]


async def fill_up(_: RedisServer, store: redis.asyncio.Redis) -> None:
    await store.config_set("maxmemory-policy", "noeviction")
    await store.config_set("maxmemory", "1")


async def kill(server: RedisServer, _: redis.asyncio.Redis) -> None:
    server.process.kill()
    await asyncio.to_thread(server.process.wait)


@pytest.mark.parametrize("broken", [fill_up, kill])
async def test_a_store_that_is_full_or_gone_is_survived(
    start_app: StartApp, sql: RunSql, broken: Breaking
) -> None:
    with running_redis() as server:
        client = await start_app(cache_url=server.url)
        path, headers = await made(client)
        await client.get(path)
        store = redis.asyncio.Redis(unix_socket_path=str(server.socket))
        await broken(server, store)
        for number in range(1, 4):
            answer = await client.patch(path, json={"quantity": number}, headers=headers)
            assert answer.status_code == 200
            assert (await client.get(path)).json()["quantity"] == number
        jobs = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'cache.forget'"
        assert int(sql(jobs)) == 3
        await store.aclose()


async def test_a_store_that_hangs_costs_its_time_out_once_and_hides_no_write(
    start_app: StartApp, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_redis() as server:
        client = await start_app(cache_url=server.url, cache_seconds=3600)
        path, headers = await made(client)
        await client.get(path)
        before = await number(client, "cache_failures_total")
        with server.stopped():
            for _ in range(3):
                assert (await client.get(path)).json()["quantity"] == 0
            changed = await client.patch(path, json={"quantity": 5}, headers=headers)
            assert changed.status_code == 200
        # The old value is still there, and is not believed.
        assert (await client.get(path)).json()["quantity"] == 5
        # A read, the fence of the change, and its end.
        assert await number(client, "cache_failures_total") - before == 3
        assert "cache.down" in capsys.readouterr().err


async def test_a_value_that_could_not_be_fenced_is_taken_away_by_a_job(
    start_app: StartApp, settings_with: Callable[..., Any]
) -> None:
    with running_redis() as server:
        client = await start_app(cache_url=server.url)
        path, _ = await made(client)
        await client.get(path)
        assert (await kept(server) or b"").startswith(b"=")
        chosen = settings_with(cache_url=server.url)
        resources = JobResources(chosen, Database(chosen), Mailer(chosen))
        await forget(resources, key_of("item", 1))
        assert await kept(server) is None
        await resources.database.close()


async def test_without_a_cache_the_database_answers(start_app: StartApp) -> None:
    client = await start_app(cache_url=None)
    path, headers = await made(client)
    assert (await client.get(path)).status_code == 200
    assert (await client.patch(path, json={"quantity": 2}, headers=headers)).status_code == 200
    assert (await client.get(path)).json()["quantity"] == 2


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.differing_executors])
@given(st.dictionaries(st.text(min_size=1), st.text() | st.integers(0, 2**53) | st.none()))
def test_an_entity_comes_out_of_the_store_as_it_went_in(content: dict[str, Any]) -> None:
    entity = Entity.of(content)
    assert Entity.unpacked(entity.packed()) == entity
    assert Entity.of({**content, "": 1}).tag != entity.tag
