"""Places of accounts in the store: who has left keeps none."""

from typing import Any

import redis.asyncio

from app.cache import Cache
from app.realtime.desk import SharedDesk
from app.realtime.sockets import Member
from app.settings import Settings
from tests.services import RedisServer


async def test_renewing_brings_back_no_place_that_has_been_left(redis_server: RedisServer) -> None:
    settings = Settings(environment="development", cache_url=redis_server.url)
    cache, store = Cache(settings), redis.asyncio.Redis.from_url(redis_server.url)
    members = [Member(f"p{number}", 7, 1, f"c{number}") for number in range(250)]
    here = set(members)
    desk = SharedDesk(cache)
    run = cache.run

    async def leaving(script: str, keys: list[str], *arguments: str | int) -> object:
        # One of this batch leaves while the store is asked, and one of the last batch.
        here.discard(members[3])
        here.discard(members[240])
        return await run(script, keys, *arguments)

    cache.run = leaving  # type: ignore[method-assign, assignment]
    left = await desk.renew(members, here.__contains__)
    cache.run = run  # type: ignore[method-assign]
    await desk.leave(left)
    assert list(left) == [members[3]]
    places: Any = await store.zrange("live:account:7", 0, -1)
    assert {place.decode() for place in places} == {f"7:{one.connection_id}" for one in here}
    await store.delete("live:account:7")
    await store.aclose()
    await cache.close()
