"""The way to Redis or Valkey. What is in it may be lost at any time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.settings import Settings

_PATIENCE = 2.0
_CONNECTIONS = 32

# A value, or else the caller's mark, which is put there to say that somebody is on the way.
_TAKE = """
local found = redis.call('GET', KEYS[1])
if not found then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return found
"""
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
# Redis has a command for that since 6.2 only, and Ubuntu 22.04 brings 6.0.
_TAKE_AWAY = """
local found = redis.call('GET', KEYS[1])
if found then redis.call('DEL', KEYS[1]) end
return found
"""
_REMOVE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end"
# Where the mark has gone, which happens when memory is short, whatever has come instead may be from
# before it was put; only a mark of the same kind is as good.
_REMOVE_FOR = """
local found = redis.call('GET', KEYS[1])
if found and (found == ARGV[1] or found:sub(1, 1) ~= ARGV[1]:sub(1, 1)) then
    return redis.call('DEL', KEYS[1])
end
"""
# A fence keeps out what is old as well, and its writer may still be about to commit.
_FORGET = """
local found = redis.call('GET', KEYS[1])
if found and found:sub(1, 1) ~= ARGV[1] then return redis.call('DEL', KEYS[1]) end
"""


class CacheDownError(Exception):
    """The cache does not answer in time, or takes nothing more."""


class Cache:
    """A client of the cache. Making it connects to nothing.

    Its methods raise CacheDownError when the cache is down, hangs or is full.
    """

    def __init__(self, settings: Settings) -> None:
        self._client: redis.asyncio.Redis | None = None
        if settings.cache_url is not None:
            self._client = _client(settings, settings.cache_timeout)
            # A change waits longer than a read, which has another way to its answer.
            self._patient = _client(settings, max(_PATIENCE, settings.cache_timeout))
            self._take = self._client.register_script(_TAKE)
            self._replace = self._client.register_script(_REPLACE)
            self._remove = self._client.register_script(_REMOVE)
            self._remove_for = self._client.register_script(_REMOVE_FOR)
            self._forget = self._client.register_script(_FORGET)

    @property
    def configured(self) -> bool:
        """Whether the settings name a cache."""
        return self._client is not None

    async def ping(self) -> bool:
        """Say whether the cache answers."""
        if self._client is None:
            return False
        try:
            return bool(await self._client.ping())
        except (RedisError, OSError):
            return False

    async def get(self, key: str) -> bytes | None:
        """Return a value."""
        assert self._client is not None  # noqa: S101
        with _translated_failures():
            value: bytes | None = await self._client.get(key)  # type: ignore[assignment]
        return value

    async def take(self, key: str, mark: bytes, seconds: float) -> bytes | None:
        """Return a value; put a mark there when there is none."""
        value: bytes | None = await self._run(self._take, key, mark, _milliseconds(seconds))
        return value

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Put a value there, whatever was there; wait longer for that than for all else."""
        with _translated_failures():
            await self._patient.set(key, value, px=_milliseconds(seconds))

    async def replace(self, key: str, mark: bytes, value: bytes, seconds: float) -> bool:
        """Put a value in the place of a mark; say whether the mark was still there."""
        return bool(await self._run(self._replace, key, mark, value, _milliseconds(seconds)))

    async def remove(self, key: str, mark: bytes) -> None:
        """Take a mark away, if it is still there."""
        await self._run(self._remove, key, mark)

    async def remove_for(self, key: str, mark: bytes) -> None:
        """Take a mark away, or what has come in its place; another mark of its kind stays."""
        await self._run(self._remove_for, key, mark)

    async def forget(self, key: str, kind: bytes) -> None:
        """Take away whatever is there, unless it is a mark of this kind."""
        await self._run(self._forget, key, kind)

    async def take_away(self, key: str) -> bytes | None:
        """Return a value that nobody gets after this; wait as long for it as `put` does."""
        value: bytes | None = await self.run(_TAKE_AWAY, [key])
        return value

    async def publish(self, channel: str, payload: bytes) -> None:
        """Send to all who listen; wait as long for it as `put` does."""
        with _translated_failures():
            await self._patient.publish(channel, payload)

    async def run(self, script: str, keys: Sequence[str], *arguments: str | int) -> Any:  # noqa: ANN401
        """Run a script of Lua that somebody else has written, as patiently."""
        with _translated_failures():
            return await self._patient.eval(script, len(keys), *keys, *arguments)

    async def close(self) -> None:
        """Close every connection."""
        if self._client is not None:
            await self._client.aclose()
            await self._patient.aclose()

    async def _run(self, script: Any, key: str, *arguments: bytes | int) -> Any:  # noqa: ANN401
        with _translated_failures():
            return await script(keys=[key], args=arguments)


@contextmanager
def _translated_failures() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise CacheDownError from error


def listening_client(settings: Settings) -> redis.asyncio.Redis:
    """Return a client of its own for one who listens: an answer may take for ever."""
    return _client(settings, None)


def _client(settings: Settings, timeout: float | None) -> redis.asyncio.Redis:
    assert settings.cache_url is not None  # noqa: S101
    password = settings.cache_password
    # Who finds all of them taken waits, instead of counting as a failure of the cache.
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.cache_url,
        max_connections=_CONNECTIONS,
        timeout=timeout,
        password=password.get_secret_value() if password else None,
        socket_timeout=timeout,
        socket_connect_timeout=timeout or _PATIENCE,
        # A second try would double the time that a caller waits for a hung cache.
        retry=Retry(NoBackoff(), 0),
    )
    return redis.asyncio.Redis.from_pool(pool)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
