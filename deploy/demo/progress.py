"""What is shown while the demo runs, and the table of times at its end."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator


def say(text: str = "") -> None:
    """Tell whoever waits, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Clock:
    """Measures the phases of a run.

    Attributes:
        times: Name and seconds of each phase that ran, also of one that failed.
    """

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = []
        started = os.environ.get("SLIPWAY_STARTED")
        if started:
            # The set-up ran before this process: make says when it began, in seconds of the epoch.
            self.times.append(("set-up", max(time.time() - float(started), 0.0)))

    @contextlib.contextmanager
    def phase(self, name: str, sentence: str) -> Iterator[None]:
        """Announce a phase and measure it."""
        say(f"\n== {name}: {sentence}")
        started = time.monotonic()
        try:
            yield
        finally:
            self.times.append((name, time.monotonic() - started))

    def table(self) -> list[str]:
        """Return a line for each phase and one for all of them."""
        lines = [f"  {name:<12}{seconds:8.1f} s" for name, seconds in self.times]
        together = sum(seconds for _, seconds in self.times)
        return ["Times", *lines, f"  {'together':<12}{together:8.1f} s"]
