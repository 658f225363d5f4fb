"""The releases that pushes have started: a record and a log of each, the newest of them kept."""

import dataclasses
import json
import os
from datetime import UTC, datetime
from pathlib import Path

_KEPT = 50


@dataclasses.dataclass(frozen=True)
class Run:
    """One release.

    Attributes:
        version: What is released.
        by: Name of the key that asked for it.
        started: When, in UTC (ISO 8601).
        downgrade: Whether an older version than the live one was asked for.
        ended: When it was over; None until then.
        status: Exit status of the playbook; None until then.
    """

    version: str
    by: str
    started: str
    downgrade: bool = False
    ended: str | None = None
    status: int | None = None

    @property
    def name(self) -> str:
        """What its files are called; names sort by time."""
        return f"{self.started.replace(':', '')}-{self.version}"

    def __str__(self) -> str:
        """Tell it in a line."""
        if self.status is None:
            outcome = "is running, or was interrupted"
        else:
            outcome = "released" if self.status == 0 else f"FAILED (exit status {self.status})"
        return f"{self.started}  {self.version:<16} by {self.by:<16} {outcome}"


def now() -> str:
    """Return the time in UTC to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def log_of(folder: Path, run: Run) -> Path:
    """Return where the log of a run is."""
    return folder / f"{run.name}.log"


def record_of(folder: Path, run: Run) -> Path:
    """Return where the record of a run is."""
    return folder / f"{run.name}.json"


def write(folder: Path, run: Run) -> None:
    """Keep a record, as a whole or not at all."""
    folder.mkdir(mode=0o750, exist_ok=True)
    place = record_of(folder, run)
    draft = place.with_suffix(".new")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(dataclasses.asdict(run), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(place)


def read(path: Path) -> Run | None:
    """Read a record; None when it is none."""
    try:
        return Run(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def newest(folder: Path, version: str | None = None) -> list[Run]:
    """Return the runs, the newest first; those of one version when it is given."""
    found = (read(path) for path in sorted(folder.glob("*.json"), reverse=True))
    return [run for run in found if run is not None and version in (None, run.version)]


def prune(folder: Path) -> None:
    """Delete what is older than the newest runs."""
    for run in newest(folder)[_KEPT:]:
        log_of(folder, run).unlink(missing_ok=True)
        record_of(folder, run).unlink(missing_ok=True)
