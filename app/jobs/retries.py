"""When a job that has failed is tried again."""

import random
from dataclasses import dataclass

_JITTER = (0.75, 1.25)


@dataclass(frozen=True)
class Retries:
    """How often a job is tried, and how long it rests between.

    Attributes:
        attempts: All of them, with the first; after the last one the job stays as failed.
        first: Seconds before the second attempt; each further rest is twice as long.
        longest: Seconds that no rest exceeds.
    """

    attempts: int = 10
    first: float = 10.0
    longest: float = 3600.0

    def is_last(self, attempt: int) -> bool:
        """Tell whether no attempt follows this one, which is 1 for the first."""
        return attempt >= self.attempts

    def rest(self, attempt: int) -> float:
        """Return the seconds after an attempt that has failed.

        Chance keeps the jobs of one outage from coming back all at once.
        """
        usual = min(self.first * 2.0 ** (attempt - 1), self.longest)
        return min(usual * random.uniform(*_JITTER), self.longest)  # noqa: S311
