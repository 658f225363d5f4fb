"""What accounts may still say on a worker, also when they have closed a socket meanwhile.

An allowance that was forgotten with its socket would be a new one for whoever opens the next.
"""

from dataclasses import dataclass, field

from app.realtime.sockets import Bucket
from app.settings import Settings


@dataclass(slots=True)
class Allowance:
    """What one account may say.

    Attributes:
        budget: bytes, of all its sockets together.
        closed: messages, one bucket for each socket that was closed and not opened again.
        open: sockets that are open.
    """

    budget: Bucket
    closed: list[Bucket] = field(default_factory=list)
    open: int = 0


class Allowances:
    """The allowances of those who are here, and of those who have left and used theirs up.

    Times are those of the event loop, in seconds.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._of: dict[int, Allowance] = {}

    def __len__(self) -> int:
        """Return how many accounts are remembered."""
        return len(self._of)

    def opened(self, user_id: int, now: float) -> tuple[Bucket, Bucket]:
        """Return the bytes and the messages for a socket: those of a closed one come first."""
        settings = self._settings
        allowance = self._of.get(user_id)
        if allowance is None:
            rate, burst = settings.websocket_bytes_per_second, settings.websocket_byte_burst
            allowance = self._of[user_id] = Allowance(Bucket(rate, burst, now))
        allowance.open += 1
        if allowance.closed:
            emptiest = min(allowance.closed, key=lambda one: one.left(now))
            allowance.closed.remove(emptiest)
            return allowance.budget, emptiest
        rate, burst = settings.websocket_messages_per_second, settings.websocket_message_burst
        return allowance.budget, Bucket(rate, burst, now)

    def closed(self, user_id: int, messages: Bucket) -> None:
        """Keep what a socket has left, for the next one of its account."""
        allowance = self._of[user_id]
        allowance.open -= 1
        allowance.closed.append(messages)

    def forget_full(self, now: float) -> None:
        """Forget what is as good as new."""
        for user_id, one in list(self._of.items()):
            one.closed = [bucket for bucket in one.closed if not bucket.is_full(now)]
            if not one.open and not one.closed and one.budget.is_full(now):
                del self._of[user_id]
