"""Reads by way of the cache, which never give back what was true before the caller's own write.

A key holds one of three things, told apart by their first byte:

- a value;
- a lease: a reader has found nothing and loads the value. Only the holder of the lease may fill the
  key, so that a value that was loaded before a change cannot come in after it;
- a fence: a writer is about to commit. Readers go to the database meanwhile, and fill nothing.

A writer puts its fence before it commits, which removes the value or the lease that is there, and
takes it away after the commit and before its client has the answer. A fence whose writer was
killed ends by itself. A worker whose cache fails reads nothing from it for as long as what is in it
may live; see docs/decisions/0018-a-cache-behind-fences.md.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import metrics
from app.cache import Cache, CacheDownError
from app.db import after_commit
from app.entities import Entity
from app.errors import UnavailableError
from app.jobs.handlers import JobResources
from app.jobs.service import Jobs
from app.log import get_logger
from app.settings import Settings

# The number changes with the shape of what is kept: releases share the keys, so that each sees the
# fences of the other.
_VALUE, _LEASE, _FENCE = b"=1", b"?", b"!"
_LEASE_SECONDS = 5.0
# Longer than a transaction can take.
_FENCE_SECONDS = 60.0
# So long no fence is tried after one that could not be put: each try may take seconds.
_UNFENCED_SECONDS = 5.0
# How long, and how often, another worker's load is waited for.
_WAIT_SECONDS, _WAIT_STEP = 0.25, 0.02

Load = Callable[[], Awaitable[Entity | None]]


class CachedReads:
    """Reads of one worker by way of the cache."""

    def __init__(self, cache: Cache, jobs: Jobs, seconds: int) -> None:
        self._cache = cache
        self._jobs = jobs
        self._seconds = seconds
        self._avoided_until = 0.0
        self._unfenced_until = 0.0
        self._loads: dict[bytes, asyncio.Task[Entity | None]] = {}
        self._releases: set[asyncio.Task[None]] = set()

    async def read(self, kind: str, thing_id: int, load: Load) -> Entity | None:
        """Return a thing, from the cache or as `load` brings it from the database.

        Of many who miss it at once, one loads it.
        """
        if not self._usable():
            return await self._loaded(kind, "bypass", load)
        key, lease = key_of(kind, thing_id), _LEASE + secrets.token_bytes(12)
        try:
            found = await self._cache.take(key, lease, _LEASE_SECONDS)
            if found is None:
                return await self._fill(kind, key, lease, load)
            if found[:1] == _LEASE:
                # It was taken after each change that is committed: else a fence would be there.
                if (others := self._loads.get(found)) is not None:
                    metrics.CACHE_READS.labels(kind, "shared").inc()
                    return await asyncio.shield(others)
                found = await self._awaited(key, found)
        except CacheDownError:
            self._avoid()
            return await self._loaded(kind, "bypass", load)
        if found is not None and found.startswith(_VALUE):
            metrics.CACHE_READS.labels(kind, "hit").inc()
            return Entity.unpacked(found.removeprefix(_VALUE))
        return await self._loaded(kind, "bypass", load)

    async def invalidate(self, session: AsyncSession, kind: str, thing_id: int) -> None:
        """Let nobody read a thing's old state once the session's transaction is committed."""
        if not self._cache.configured:
            return
        key, fence = key_of(kind, thing_id), _FENCE + secrets.token_bytes(12)
        if await self._fenced(key, fence):
            after_commit(session, lambda: self._released(self._cache.remove_for(key, fence)))
            return
        # The value may still be there, so it is taken away as soon as that can be done.
        await self._jobs.enqueue(session, "cache.forget", key=key)
        after_commit(session, lambda: self._released(self._cache.forget(key, _FENCE)))

    async def close(self) -> None:
        """Let what is under way come to its end."""
        for running in (self._releases, self._loads.values()):
            if running:
                await asyncio.wait(list(running))

    async def _fenced(self, key: str, fence: bytes) -> bool:
        # Also while reads leave the cache alone: those of other workers may not.
        if time.monotonic() < self._unfenced_until:
            return False
        try:
            await self._cache.put(key, fence, _FENCE_SECONDS)
        except CacheDownError:
            self._avoid()
            self._unfenced_until = time.monotonic() + _UNFENCED_SECONDS
            return False
        return True

    def _usable(self) -> bool:
        return self._cache.configured and time.monotonic() >= self._avoided_until

    def _avoid(self) -> None:
        """Read nothing from the cache until everything has expired that may come into it now.

        A change that this worker or another one makes meanwhile may not reach it. Somebody who has
        a lease already may still fill it with what was true before.
        """
        metrics.CACHE_FAILURES.inc()
        if self._usable():
            get_logger().warning(
                "cache.down",
                message=f"The cache fails: the database answers for {self._seconds} s.",
            )
        self._avoided_until = time.monotonic() + self._seconds + _LEASE_SECONDS

    async def _loaded(self, kind: str, outcome: str, load: Load) -> Entity | None:
        metrics.CACHE_READS.labels(kind, outcome).inc()
        return await load()

    async def _fill(self, kind: str, key: str, lease: bytes, load: Load) -> Entity | None:
        """Load for everybody; a caller who goes away does not take the others' answer along."""
        task = asyncio.create_task(self._load_and_put(kind, key, lease, load))
        self._loads[lease] = task

        def ended(done: asyncio.Task[Entity | None]) -> None:
            del self._loads[lease]
            if not done.cancelled():
                done.exception()

        task.add_done_callback(ended)
        return await asyncio.shield(task)

    async def _load_and_put(self, kind: str, key: str, lease: bytes, load: Load) -> Entity | None:
        entity = await self._loaded(kind, "miss", load)
        try:
            if entity is None:
                await self._cache.remove(key, lease)
            else:
                value = _VALUE + entity.packed()
                await self._cache.replace(key, lease, value, self._seconds)
        except CacheDownError:
            self._avoid()
        return entity

    async def _awaited(self, key: str, lease: bytes) -> bytes | None:
        """Return what another worker puts in the place of its lease, if it does so soon."""
        end = time.monotonic() + _WAIT_SECONDS
        found: bytes | None = lease
        while found == lease and time.monotonic() < end:
            await asyncio.sleep(_WAIT_STEP)
            found = await self._cache.get(key)
        return found

    def _released(self, release: Coroutine[Any, Any, None]) -> Awaitable[None]:
        async def run() -> None:
            try:
                await release
            except CacheDownError:
                # What is not taken away ends by itself, and it may be from right before the commit.
                self._avoid()

        task = asyncio.create_task(run())
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
        # A client that goes away does not stop it.
        return asyncio.shield(task)


def key_of(kind: str, thing_id: int) -> str:
    """Return the key of a thing."""
    return f"cached:{kind}:{thing_id}"


def longest_kept(settings: Settings) -> float:
    """Return the seconds after which nothing of before is in the cache any more."""
    return settings.cache_seconds + _LEASE_SECONDS


async def forget(resources: JobResources, key: str) -> None:
    """Take a value away that could not be fenced; as a job it is tried while it may be there.

    Raises:
        UnavailableError: when the cache is down, hangs or is full.
    """
    cache = Cache(resources.settings)
    try:
        await cache.forget(key, _FENCE)
    except CacheDownError as error:
        raise UnavailableError("The cache does not answer, or takes nothing more.") from error
    finally:
        await cache.close()
