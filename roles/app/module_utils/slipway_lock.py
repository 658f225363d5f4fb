# Ansible sends this along with the module; it belongs to no package.
# ruff: noqa: INP001
"""The lock of the host tool, `slipway`, held by a run of the playbook.

The tool need not be there yet: it is the role `release` that brings it, with lock.py, which says
what whoever holds the lock writes into it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path

_POLL_SECONDS = 0.25


class LockedError(Exception):
    """Somebody else holds the lock; the message says who."""


class ReleaseLock:
    """The lock of a service; the kernel frees it with the process, however that ends.

    Attributes:
        path: The locked file.
        app: Name of the service.
        version: The release that is to be restarted.
    """

    def __init__(self, path: Path, app: str, version: str) -> None:
        self.path = path
        self.app = app
        self.version = version
        self._descriptor = -1

    def take(self, seconds: float) -> None:
        """Wait for the lock, take it, and tell the tool who has it.

        Raises:
            LockedError: Somebody else still holds it after this time.
        """
        if not self.path.parent.is_dir():
            self.path.parent.mkdir(parents=True)
            # The umask of whoever connects narrows both modes.
            self.path.parent.chmod(0o755)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        os.fchmod(self._descriptor, 0o644)
        deadline = time.monotonic() + seconds
        while not _locked(self._descriptor):
            if time.monotonic() >= deadline:
                raise LockedError(self._holder(seconds))
            time.sleep(_POLL_SECONDS)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(self._own()).encode(), 0)

    def free(self) -> None:
        """Let others have it."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _own(self) -> dict[str, str | float]:
        now = time.time()
        return {
            "app": self.app,
            "verb": "restart",
            "version": self.version,
            "who": "playbook.yml",
            "since": now,
            "step": "restart",
            "operation": f"restart-{now:.0f}",
        }

    def _holder(self, seconds: float) -> str:
        # The holder may be just rewriting its step.
        for _ in range(5):
            with contextlib.suppress(ValueError, TypeError, KeyError):
                told = json.loads(self.path.read_text(encoding="utf-8"))
                since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(told["since"]))
                return (
                    f"{told['who']} has been running `{told['verb']} {told['version']}` since "
                    f"{since} UTC (now at: {told['step']}), and was waited for {seconds:.0f} s."
                )
            time.sleep(0.02)
        return f"another operation is under way, and was waited for {seconds:.0f} s."


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
