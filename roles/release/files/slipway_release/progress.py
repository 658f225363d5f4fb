"""The story of an operation, line by line: to its log, which is followed, and the journal."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from slipway_release import journal
from slipway_release.settings import Settings

# The journal keeps the story for good; the logs are for whoever watches.
_KEPT_LOGS = 20


def log_path(settings: Settings, operation: str) -> Path:
    """Return the log of an operation."""
    return settings.state / "operations" / f"{operation}.log"


class Progress:
    """Writes the log of one operation; a full disk does not end the operation."""

    def __init__(self, settings: Settings, operation: str, verb: str, version: str) -> None:
        self._fields: dict[str, Any] = {
            "APP": settings.app,
            "RELEASE": version,
            "RELEASE_OPERATION": operation,
            "EVENT": f"slipway.{verb}.step",
        }
        path = log_path(settings, operation)
        self._descriptor = -1
        with contextlib.suppress(OSError):
            # The log holds lines of the service, which are not for every user of the host.
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for old in sorted(path.parent.glob("*.log"))[:-_KEPT_LOGS]:
                old.unlink()
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tell(self, line: str, priority: int = journal.INFO) -> None:
        """Tell one line."""
        self._log(line)
        journal.send(line.strip(), priority, **self._fields)

    def step(self, name: str, seconds: float, outcome: str) -> None:
        """Tell that a step ended."""
        self._log(f"  {name:<13} {seconds:6.2f} s  {outcome}".rstrip())
        journal.send(
            f"{name}: {outcome or 'done'} ({seconds:.2f} s)",
            **self._fields,
            RELEASE_STEP=name,
            RELEASE_SECONDS=f"{seconds:.3f}",
        )

    def _log(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, (line + "\n").encode())
