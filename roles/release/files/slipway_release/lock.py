"""One operation at a time on a host, held by its process: the kernel frees it with its holder."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import time
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from slipway_release.errors import LockedError

# `slipway status` looks at the lock by taking it for an instant; a release waits that out.
_GLANCE_SECONDS = 0.3


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds the lock, and for what.

    Attributes:
        app: Name of the service.
        verb: What is being done, `release` or `rollback`.
        version: To which version.
        who: The person who asked for it.
        since: Unix time of the start.
        step: The step under way.
        operation: Identity of the operation, which names its log.
    """

    app: str
    verb: str
    version: str
    who: str
    since: float
    step: str
    operation: str

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, tz=timezone.utc)
        return (
            f"{self.who} has been running `{self.verb} {self.version}` of {self.app} since "
            f"{since:%Y-%m-%d %H:%M:%S} UTC (now at: {self.step}). Nothing was changed; wait for "
            f"it, or follow it with `journalctl -fu slipway-{self.app}-release`."
        )


class OperationLock:
    """The lock of a service, as a context manager.

    Raises:
        LockedError: On entry, when another process holds it; the message names the holder.
    """

    def __init__(self, path: Path, holder: Holder) -> None:
        self._path = path
        self._holder = holder
        self._descriptor = -1

    # typing.Self is of Python 3.11.
    def __enter__(self) -> OperationLock:  # noqa: PYI034
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + _GLANCE_SECONDS
        while not _take(self._descriptor):
            if time.monotonic() > deadline:
                holder = _read(self._path)
                os.close(self._descriptor)
                raise LockedError(str(holder or "Another operation is just beginning."))
            time.sleep(0.02)
        self._write(self._holder)
        return self

    def step(self, name: str) -> None:
        """Tell which step is under way."""
        self._write(dataclasses.replace(self._holder, step=name))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _write(self, holder: Holder) -> None:
        text = json.dumps(dataclasses.asdict(holder)).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)


def holder_of(path: Path) -> Holder | None:
    """Return who holds a lock now, None when it is free."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if _take(descriptor) else _read(path)
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> Holder | None:
    # The holder may be just rewriting its step: look again rather than name nobody.
    for _ in range(5):
        with contextlib.suppress(ValueError, TypeError, OSError):
            return Holder(**json.loads(path.read_text(encoding="utf-8")))
        time.sleep(0.02)
    return None
