"""Which revisions run when: expanding ones with a release, contracting ones on request.

The history is one line. A revision says what it is by `phase`: `expand` leaves everything in place
that the release before it uses, `contract` takes away or tightens what no release needs any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alembic.script import Script, ScriptDirectory

MIGRATIONS = Path(__file__).resolve().parent
PHASES = ("expand", "contract")


class MigrationError(Exception):
    """What is asked for cannot be done; the message says why, and what to do."""


@dataclass(frozen=True)
class Revision:
    """One revision.

    Attributes:
        id: Its identifier.
        phase: `expand` or `contract`.
        summary: The first line of its file.
        before: The revision that it follows; None for the first one.
    """

    id: str
    phase: str
    summary: str
    before: str | None


def history(scripts: ScriptDirectory) -> list[Revision]:
    """Return all revisions, oldest first.

    Raises:
        MigrationError: The history is not one line, or a revision does not say its phase.
    """
    heads = scripts.get_heads()
    if len(heads) > 1:
        message = (
            f"The history has {len(heads)} heads ({', '.join(heads)}): put one after the other."
        )
        raise MigrationError(message)
    found = [_revision(script) for script in scripts.walk_revisions()]
    return found[::-1]


def _revision(script: Script) -> Revision:
    phase = getattr(script.module, "phase", None)
    if phase not in PHASES:
        message = (
            f'Revision {script.revision} says phase = {phase!r}: write phase = "expand" when the '
            'release before it can work with what it makes, otherwise phase = "contract".'
        )
        raise MigrationError(message)
    before = script.down_revision
    if before is not None and not isinstance(before, str):
        message = f"Revision {script.revision} follows several others: the history is one line."
        raise MigrationError(message)
    summary = (script.doc or "").strip().partition("\n")[0]
    return Revision(script.revision, phase, summary, before)


def pending(revisions: Sequence[Revision], current: str | None) -> list[Revision]:
    """Return the revisions that a database lacks.

    Args:
        revisions: All of them, oldest first.
        current: Where the database is; None when it is empty. One that is not among them is newer
            than all of them.
    """
    known = [revision.id for revision in revisions]
    if current is None:
        return list(revisions)
    return list(revisions[known.index(current) + 1 :]) if current in known else []


def expanding(revisions: Sequence[Revision], current: str | None) -> list[Revision]:
    """Return the revisions that a release runs before its switch.

    An empty database has no release that needs an older shape: it gets all of them.

    Raises:
        MigrationError: An expanding one lies behind a contracting one that was not run.
    """
    missing = pending(revisions, current)
    if current is None:
        return missing
    runs = _leading(missing, "expand")
    behind = [revision.id for revision in missing[len(runs) :] if revision.phase == "expand"]
    if behind:
        message = (
            f"Revision {behind[0]} lies behind {missing[len(runs)].id}, which contracts and has "
            "not been run: run `slipway contract` with a release that has it, then this one."
        )
        raise MigrationError(message)
    return runs


def contracting(revisions: Sequence[Revision], current: str | None) -> list[Revision]:
    """Return the revisions that are run on request.

    Raises:
        MigrationError: An expanding one has to be run before them.
    """
    missing = pending(revisions, current)
    runs = _leading(missing, "contract")
    if missing and not runs:
        message = (
            f"Revision {missing[0].id} expands and has not been run: it runs with a release, and "
            "before anything is contracted."
        )
        raise MigrationError(message)
    return runs


def required(revisions: Sequence[Revision]) -> str | None:
    """Return the revision that this code cannot do without: the last one that expands."""
    expand = [revision.id for revision in revisions if revision.phase == "expand"]
    return expand[-1] if expand else None


def _leading(revisions: Sequence[Revision], phase: str) -> list[Revision]:
    found: list[Revision] = []
    for revision in revisions:
        if revision.phase != phase:
            break
        found.append(revision)
    return found
