"""What this code knows of the database's schema: the revisions in `migrations/`."""

from dataclasses import dataclass
from pathlib import Path

from alembic.script import ScriptDirectory

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"


@dataclass(frozen=True)
class KnownRevisions:
    """The revisions that this code carries.

    Attributes:
        head: the newest one, which this code was written for.
        every: all of them.
    """

    head: str
    every: frozenset[str]


def known_revisions() -> KnownRevisions:
    """Read the revisions from their files, which is not for an event loop."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    every = frozenset(script.revision for script in scripts.walk_revisions())
    return KnownRevisions(scripts.get_current_head() or "", every)
