"""What was released and rolled back on this host, and what came of it: one JSON line each."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from slipway_release import durable, journal
from slipway_release.settings import Settings

# The identity of our records in the journal, so that they are found whatever they say.
MESSAGE_ID = "b6f3a1c7e4d24a3f9d0f6c2b7a51e8d4"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One operation that came to an end.

    Attributes:
        id: Identity of the operation, which names its log.
        verb: `release`, `rollback` or `contract`.
        version: Where it led.
        previous: What served before.
        who: The person who asked for it.
        started: Unix time of the command.
        traffic: Seconds from the command to the switch; None when there was none.
        seconds: Seconds from the command to the end.
        result: `good` or `failed`.
        reason: Why it failed.
        steps: Seconds of each step.
        restore_point: Where the database was saved before; '' for nowhere.
        revisions: What was contracted.
    """

    id: str
    verb: str
    version: str
    previous: str | None
    who: str
    started: float
    traffic: float | None
    seconds: float
    result: str
    reason: str
    steps: Mapping[str, float]
    restore_point: str = ""
    revisions: Sequence[str] = ()

    @property
    def what(self) -> str:
        """What was asked for, in a few words."""
        if self.verb == "contract":
            return f"contract {self.version} ({', '.join(self.revisions)})"
        return f"{self.verb} {self.previous or 'nothing'} → {self.version}"

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.started, tz=timezone.utc)
        line = (
            f"{when:%Y-%m-%d %H:%M:%S} UTC  {self.what}  {self.result}  {self.seconds:.1f} s  "
            f"by {self.who}"
        )
        if self.restore_point:
            line += f"\n    restore point {self.restore_point}"
        return f"{line}\n    {self.reason}" if self.reason else line


def path(settings: Settings) -> Path:
    """Return the file of a service's history."""
    return settings.state / "history.jsonl"


def add(settings: Settings, entry: Entry) -> None:
    """Add an entry to the history and to the journal."""
    durable.append_line(path(settings), json.dumps(dataclasses.asdict(entry), sort_keys=True))
    good = entry.result == "good"
    journal.send(
        f"{settings.app}: {entry.what} by {entry.who}: "
        f"{entry.result}{': ' + entry.reason if entry.reason else ''}",
        journal.INFO if good else journal.ERROR,
        MESSAGE_ID=MESSAGE_ID,
        EVENT=f"slipway.{entry.verb}",
        APP=settings.app,
        RELEASE=entry.version,
        RELEASE_PREVIOUS=entry.previous or "",
        RELEASE_RESULT=entry.result,
        RELEASE_BY=entry.who,
        RELEASE_OPERATION=entry.id,
        RELEASE_SECONDS=f"{entry.seconds:.3f}",
        RELEASE_TRAFFIC_SECONDS="" if entry.traffic is None else f"{entry.traffic:.3f}",
        RELEASE_RESTORE_POINT=entry.restore_point,
        RELEASE_REVISIONS=" ".join(entry.revisions),
        RELEASE_STEPS=json.dumps(dict(entry.steps)),
    )


def read(settings: Settings) -> list[Entry]:
    """Return the history, oldest first; a line that a power cut tore is passed over."""
    entries = []
    with contextlib.suppress(FileNotFoundError):
        for line in path(settings).read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError):
                entries.append(Entry(**json.loads(line)))
    return entries
