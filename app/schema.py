"""What this code knows of the database's schema: the revisions in `migrations/`."""

from dataclasses import dataclass
from pathlib import Path

from alembic.script import ScriptDirectory

from migrations import phases

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"


@dataclass(frozen=True)
class KnownRevisions:
    """The revisions that this code carries.

    Attributes:
        required: the last one that expands, which this code cannot do without.
        behind: those before it, with which it cannot work.
        every: all of them.
    """

    required: str
    behind: frozenset[str]
    every: frozenset[str]


def known_revisions() -> KnownRevisions:
    """Read the revisions from their files, which is not for an event loop."""
    revisions = phases.history(ScriptDirectory(str(MIGRATIONS)))
    required = phases.required(revisions) or ""
    names = [revision.id for revision in revisions]
    behind = names[: names.index(required)] if required else []
    return KnownRevisions(required, frozenset(behind), frozenset(names))
