"""How many files and exports are under way: of an account on all workers, and in one worker."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from app.cache import Cache, CacheDownError
from app.errors import RateLimitedError, UnavailableError
from app.settings import Settings

# A place is kept while what has it goes on; that of a worker that was killed is free after this.
_PLACE_SECONDS = 90

# The key holds the places of an account with the second in which each of them runs out, by the
# store's clock: those of the hosts differ.
_TAKE = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""
_KEEP = """
redis.call('ZADD', KEYS[1], redis.call('TIME')[1] + ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
_LEAVE = "redis.call('ZREM', KEYS[1], ARGV[1])"


class TooManyUploadsError(RateLimitedError):
    """The account has as many uploads under way as it may have."""

    code = "too_many_uploads"
    message = "Your account has too many uploads under way: wait until one of them has ended."


class TooManyExportsError(RateLimitedError):
    """The account has as many exports under way as it may have."""

    code = "too_many_exports"
    message = "Your account has too many exports under way: wait until one of them has ended."


class TooManyTransfersError(UnavailableError):
    """The worker has as many of them under way as it has memory for."""

    code = "too_many_transfers"
    message = "Too many transfers are under way at the moment: try again in a few seconds."


class Transfers:
    """What comes and goes in one worker. Making it connects to nothing."""

    def __init__(self, settings: Settings, cache: Cache) -> None:
        self._own_uploads = _AccountPlaces(
            cache, "files:uploads", settings.uploads_per_account, TooManyUploadsError
        )
        self._own_exports = _AccountPlaces(
            cache, "items:exports", settings.exports_per_account, TooManyExportsError
        )
        # What goes into a folder needs little memory.
        in_parts = settings.file_store == "s3"
        self._uploads = _Places(settings.s3_uploads_per_worker if in_parts else None)
        self._downloads = _Places(settings.downloads_per_worker)
        self._exports = _Places(settings.exports_per_worker)

    @asynccontextmanager
    async def uploading(self, account_id: int) -> AsyncIterator[None]:
        """Take a place for an upload of an account, until the context ends.

        Raises:
            TooManyUploadsError: when the account has as many as it may have.
            TooManyTransfersError: when the worker has.
        """
        async with _both(self._uploads, self._own_uploads, account_id):
            yield

    @asynccontextmanager
    async def exporting(self, account_id: int) -> AsyncIterator[None]:
        """Take a place for an export that an account reads, until the context ends.

        Raises:
            TooManyExportsError: when the account has as many as it may have.
            TooManyTransfersError: when the worker has.
        """
        async with _both(self._exports, self._own_exports, account_id):
            yield

    @asynccontextmanager
    async def downloading(self) -> AsyncIterator[None]:
        """Take a place for a download that the service sends itself, until the context ends.

        Raises:
            TooManyTransfersError: when the worker has as many as it may have.
        """
        with self._downloads.taken():
            yield


class _AccountPlaces:
    """What each account has room for, on all workers together."""

    def __init__(
        self, cache: Cache, name: str, number: int, refusal: type[RateLimitedError]
    ) -> None:
        self._cache = cache
        self._name = name
        self._number = number
        self._refusal = refusal
        # Of this worker, for when the store is away.
        self._here: Counter[int] = Counter()

    @asynccontextmanager
    async def taken(self, account_id: int) -> AsyncIterator[None]:
        """Take one until the context ends."""
        with self._taken_here(account_id):
            if not self._cache.configured:
                yield
                return
            place = f"{self._name}:{account_id}", secrets.token_hex(8)
            await self._take(*place)
            keeping = asyncio.create_task(self._keep(*place))
            try:
                yield
            finally:
                keeping.cancel()
                # What is not given back runs out.
                with suppress(CacheDownError):
                    await self._cache.run(_LEAVE, [place[0]], place[1])

    @contextmanager
    def _taken_here(self, account_id: int) -> Iterator[None]:
        if self._here[account_id] >= self._number:
            raise self._refusal(self._number, 0, 1)
        self._here[account_id] += 1
        try:
            yield
        finally:
            self._here[account_id] -= 1
            if not self._here[account_id]:
                del self._here[account_id]

    async def _take(self, key: str, place: str) -> None:
        with suppress(CacheDownError):
            if not await self._cache.run(_TAKE, [key], place, _PLACE_SECONDS, self._number):
                raise self._refusal(self._number, 0, 1)

    async def _keep(self, key: str, place: str) -> None:
        while True:
            await asyncio.sleep(_PLACE_SECONDS / 3)
            with suppress(CacheDownError):
                await self._cache.run(_KEEP, [key], place, _PLACE_SECONDS)


class _Places:
    """What a worker has room for; None stands for no bound."""

    def __init__(self, number: int | None) -> None:
        self._number = number
        self._taken = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take one until the context ends."""
        if self._number is not None and self._taken >= self._number:
            raise TooManyTransfersError
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


@asynccontextmanager
async def _both(here: _Places, own: _AccountPlaces, account_id: int) -> AsyncIterator[None]:
    """Take a place of the worker and one of the account."""
    with here.taken():
        async with own.taken(account_id):
            yield
