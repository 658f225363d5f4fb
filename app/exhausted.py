"""Callers who have used up a limit, as far as one worker has just seen it."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from app.errors import RateLimitedError

# How many of them are remembered; whoever is forgotten is counted again.
_REMEMBERED = 4096

# Whom a limit counts, at which endpoint.
Key = tuple[str, Callable[..., Any]]


class Exhausted:
    """Refuses for as long as their windows last, without counting or asking anybody."""

    def __init__(self) -> None:
        self._until: OrderedDict[Key, tuple[float, int]] = OrderedDict()

    def note(self, key: Key, error: RateLimitedError) -> None:
        """Remember that somebody was refused."""
        self._until[key] = (time.monotonic() + error.reset_after, error.limit)
        if len(self._until) > _REMEMBERED:
            self._until.popitem(last=False)

    def check(self, key: Key) -> None:
        """Let pass whose window has ended, and who is not known.

        Raises:
            RateLimitedError: when it has not ended.
        """
        ends, limit = self._until.get(key, (0.0, 0))
        rest = ends - time.monotonic()
        if rest > 0:
            raise RateLimitedError(limit, 0, max(1, int(rest) + 1))
