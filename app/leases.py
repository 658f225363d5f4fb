"""The default rate limit without a trip to the store for each request: by leases.

A worker counts several requests of a caller in the shared store at once, and lets so many pass
before it asks again. Whatever passes has been counted before, by whichever worker or host, so that
never more pass than the limit says. What a worker has taken and a caller does not use is lost until
the window ends: with each worker less than a fiftieth of the limit, and never more than the caller
has used there before.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from limits import RateLimitItem
from redis.exceptions import RedisError

from app.errors import RateLimitedError
from app.limit_store import AwaitedStorage

_SHARE = 50
_LARGEST = 16
# How many leases a worker remembers. One that is forgotten is lost to its caller, no more.
_REMEMBERED = 8192


@dataclass(slots=True)
class _Lease:
    """What a caller may still do without asking.

    Attributes:
        left: how many requests are left of it.
        size: how many there were.
        ends: when the window ends, by the monotonic clock.
        refused: whether the limit was reached: nobody asks again before the window ends.
    """

    left: int
    size: int
    ends: float
    refused: bool = False


class _Question(asyncio.Event):
    """A question to the store, which is set when it has ended; those who wait share its failure."""

    failed = False


class Leases:
    """The leases of one worker for one limit."""

    def __init__(self, item: RateLimitItem, store: AwaitedStorage, patience: float = 1.0) -> None:
        """Count nothing yet; an answer of the store may take `patience` seconds."""
        self._item = item
        self._patience = patience
        self._store = store
        self._largest = max(1, min(_LARGEST, item.amount // _SHARE))
        self._leases: OrderedDict[tuple[str, str], _Lease] = OrderedDict()
        self._asking: dict[tuple[str, str], _Question] = {}

    def take(self, who: str, what: str) -> bool:
        """Count a request of a caller for an endpoint if that needs no question."""
        lease = self._leases.get((who, what))
        if lease is None or not lease.left or time.monotonic() >= lease.ends:
            return False
        lease.left -= 1
        return True

    async def ask(self, who: str, what: str) -> None:
        """Count a request, and take a lease for the next ones.

        Of several at once one asks: each would take a lease of its own, which other workers miss.

        Raises:
            RateLimitedError: when it is one too many.
            RedisError: when the store is away.
            TimeoutError: when it does not answer in time; to wait for others takes none of it.
        """
        key = (who, what)
        self._refuse(key)
        while self._largest > 1 and (other := self._asking.get(key)) is not None:
            await other.wait()
            if other.failed:
                raise TimeoutError
            self._refuse(key)
            if self.take(who, what):
                return
        self._asking[key] = question = _Question()
        try:
            await self._ask(key)
        except (RedisError, OSError):
            question.failed = True
            raise
        finally:
            if self._asking.get(key) is question:
                del self._asking[key]
            question.set()

    def _refuse(self, key: tuple[str, str]) -> None:
        lease = self._leases.get(key)
        if lease is not None and lease.refused:
            rest = lease.ends - time.monotonic()
            if rest > 0:
                raise RateLimitedError(self._item.amount, 0, max(1, int(rest) + 1))

    async def _ask(self, key: tuple[str, str]) -> None:
        asked = time.monotonic()
        last = self._leases.get(key)
        # As the caller has shown to need: a caller of few requests loses none.
        size = min(2 * last.size, self._largest) if last and asked < last.ends else 1
        item = self._item
        async with asyncio.timeout(self._patience):
            count, seconds = await self._store.take(item.key_for(*key), item.get_expiry(), size)
        granted = size - max(0, count - item.amount)
        refused = granted < 1
        # The window ends that long after the store was asked, or a little later.
        self._leases.pop(key, None)
        self._leases[key] = _Lease(max(0, granted - 1), size, asked + seconds, refused)
        if len(self._leases) > _REMEMBERED:
            self._leases.popitem(last=False)
        if refused:
            raise RateLimitedError(item.amount, 0, max(1, int(seconds) + 1))
