"""The store of the rate limits: Redis or Valkey, asked without a thread.

The library `limits` calls its store synchronously. A thread for each call would contend with the
event loop for the interpreter's lock at each system call. Here the library runs in a greenlet, as
SQLAlchemy runs on asynchronous drivers: where it would wait for the store, the event loop goes on
with other requests.
"""

import time
from typing import Any

import redis.asyncio
from limits.storage import Storage
from redis.exceptions import RedisError
from sqlalchemy.util import await_only

SCHEME = "awaited+"
# Of one worker. More calls at once wait for them instead of failing.
_CONNECTIONS = 32
# As the library's own store counts, in one round trip.
_COUNT = """
local count = redis.call("INCRBY", KEYS[1], ARGV[2])
if count == tonumber(ARGV[2]) then
    redis.call("EXPIRE", KEYS[1], ARGV[1])
end
return {count, redis.call("PTTL", KEYS[1])}
"""


class AwaitedStorage(Storage):
    """Counts in fixed windows. All but its coroutines must run within SQLAlchemy's greenlets."""

    STORAGE_SCHEME = [f"{SCHEME}{kind}" for kind in ("redis", "rediss", "unix")]  # noqa: RUF012

    def __init__(self, uri: str, **options: Any) -> None:  # noqa: ANN401
        wrap_exceptions = bool(options.pop("wrap_exceptions", False))
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            uri.removeprefix(SCHEME), max_connections=_CONNECTIONS, **options
        )
        self._client = redis.asyncio.Redis.from_pool(pool)
        self._count = self._client.register_script(_COUNT)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the client raises."""
        return RedisError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, and return how many there are until the window ends, in `expiry` seconds."""
        return await_only(self.take(key, expiry, amount))[0]

    async def take(self, key: str, expiry: int, amount: int) -> tuple[int, float]:
        """Count as `incr` does, outside of a greenlet; return also in how many seconds it ends."""
        count, milliseconds = await self._count([_named(key)], [expiry, amount])
        return int(count), int(milliseconds) / 1000

    def get(self, key: str) -> int:
        """Return how many there are."""
        return int(await_only(self._client.get(_named(key))) or 0)

    def get_expiry(self, key: str) -> float:
        """Return when the window ends.

        Exactly: the store rounds whole seconds, so that a caller would be told to come back before.
        """
        return max(int(await_only(self._client.pttl(_named(key)))), 0) / 1000 + time.time()

    def check(self) -> bool:
        """Say whether the store answers."""
        try:
            return bool(await_only(self._client.ping()))
        except (RedisError, OSError):
            return False

    def clear(self, key: str) -> None:
        """Forget what was counted."""
        await_only(self._client.delete(_named(key)))

    def reset(self) -> int | None:
        """Refuse: the store is shared with others."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()


def _named(key: str) -> str:
    """Name a counter as releases before this one do."""
    return f"LIMITS:{key}"
