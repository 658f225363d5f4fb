"""One release at a time: a lock that the kernel frees when its holder ends, however it ends."""

import dataclasses
import fcntl
import json
import os
import time
from pathlib import Path

from deploy.push.errors import PushError

# Somebody who asks holds it for an instant.
_PATIENCE_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who releases what, and since when (UTC, ISO 8601)."""

    version: str
    by: str
    since: str

    def __str__(self) -> str:
        """Say it in half a sentence."""
        return f"{self.version} is being released by {self.by} since {self.since}"


def take(path: Path, holder: Holder) -> int:
    """Take the lock; whoever inherits the file descriptor keeps it.

    Raises:
        PushError: Another release holds it; the message names it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not _lock(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            os.close(descriptor)
            raise PushError(f"{_read(path) or 'Another release is running'}: wait for its end.")
        time.sleep(0.02)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(dataclasses.asdict(holder)).encode(), 0)
    return descriptor


def holder_of(path: Path) -> Holder | None:
    """Return who holds the lock, or None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _lock(descriptor, fcntl.LOCK_SH):
            return None
        return _read(path) or Holder("a version", "somebody", "a moment")
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
