"""The way to Redis or Valkey. What is in it may be lost at any time."""

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.settings import Settings


class Cache:
    """A client of the cache. Making it connects to nothing."""

    def __init__(self, settings: Settings) -> None:
        self._client: redis.asyncio.Redis | None = None
        if settings.cache_url is not None:
            password = settings.cache_password
            self._client = redis.asyncio.Redis.from_url(
                settings.cache_url,
                password=password.get_secret_value() if password else None,
                socket_timeout=settings.cache_timeout,
                socket_connect_timeout=settings.cache_timeout,
                # A second try would double the time that a caller waits for a hung cache.
                retry=Retry(NoBackoff(), 0),
            )

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

    async def close(self) -> None:
        """Close every connection."""
        if self._client is not None:
            await self._client.aclose()
