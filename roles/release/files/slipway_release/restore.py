"""Restore points: the database as it was before a release or a contraction changed its schema.

The unit `<app>-restore-point@` of the role `app` makes them. Its instance `size` writes the number
of bytes that the next one may take into the file `size`; the instance of a version saves the
database as `<version>-<time>.dump`. What a database is, only the unit knows.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from slipway_release import durable, schema, units
from slipway_release.errors import FailedError, RefusedError
from slipway_release.settings import Settings
from slipway_release.work import Work

_SIZE = "size"


def unit(app: str, instance: str) -> str:
    """Name of the unit that saves the database."""
    return f"{app}-restore-point@{instance}.service"


def is_needed(work: Work) -> bool:
    """Tell whether the operation changes the schema, as far as its manifest says."""
    settings = work.settings
    if not settings.has_restore_point:
        return False
    if work.order.verb == "contract":
        return True
    if not settings.has_migrations or work.manifest is None:
        return False
    revisions = work.manifest.revisions
    # Where nobody knows what the migration is going to do, it may be anything.
    return not revisions or bool(schema.unexpanded(settings, revisions))


def size(work: Work) -> int:
    """Return the bytes that a restore point may take; 0 when none is needed.

    Raises:
        RefusedError: The database could not be asked.
    """
    if not is_needed(work):
        return 0
    path = work.settings.restore_points / _SIZE
    durable.remove(path)
    try:
        units.run(unit(work.settings.app, _SIZE), "The question for the size of the database")
    except FailedError as error:
        raise RefusedError(str(error), error.lines) from error
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return 0


def take(work: Work) -> str:
    """Let the database be saved before its schema changes.

    Raises:
        FailedError: It was not saved, so nothing of it may be changed.
    """
    if not work.settings.has_restore_point:
        return "none"
    if not is_needed(work):
        return "none needed, no new revision"
    before = set(_all(work.settings))
    what = f"The restore point before the {work.order.verb} of {work.version}"
    units.run(unit(work.settings.app, work.version), what)
    made = [path for path in _all(work.settings) if path not in before]
    if not made:
        return "done"
    work.note(restore_point=str(made[-1]))
    for old in _all(work.settings)[: -work.settings.keep_restore_points]:
        durable.remove(old)
    return str(made[-1])


def hint(work: Work) -> str:
    """Return how to return to the restore point of an operation; '' when it has none."""
    path = work.operation.restore_point
    if not path:
        return ""
    return (
        f" The database as it was before is in {path}: docs/runbook.md, Restore a dump, says how "
        f"to return to it, should that be necessary."
    )


def _all(settings: Settings) -> list[Path]:
    """Return the restore points, the oldest first."""
    found = settings.restore_points.glob("v*.dump")
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))
