"""Callers who have used up a limit, and keys that were good, as one worker has just seen them."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from app.errors import RateLimitedError
from app.opaque_tokens import hash_token

# How many of each are remembered; whoever is forgotten is counted again.
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


class GoodKeys:
    """Tells whose a key is that was good when it was last looked up, before it is looked up again.

    So what others do at its address does not count for it. That it was good lets nobody in.
    """

    def __init__(self) -> None:
        self._users: OrderedDict[bytes, int] = OrderedDict()

    def note(self, key: str, user_id: int) -> None:
        """Remember that a key is good; the one that was not used for longest makes room."""
        hashed = hash_token(key)
        self._users[hashed] = user_id
        self._users.move_to_end(hashed)
        if len(self._users) > _REMEMBERED:
            self._users.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget a key that is good no longer, or never was."""
        self._users.pop(hash_token(key), None)

    def user_of(self, key: str) -> int | None:
        """Return whose a key was; nothing when it is not known."""
        return self._users.get(hash_token(key))
