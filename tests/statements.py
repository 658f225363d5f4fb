"""Counts what a database is really asked, as its server writes it down."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services import SERVICE, PostgreSQL

_LINE = re.compile(r"LOG:  (?:statement|execute [^:]+): (.*)")


class Statements:
    """Reads the log of a server."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = log.stat().st_size

    def new(self) -> list[str]:
        """Return the first lines of the statements since the last call."""
        # The server writes before it executes, so that all that was answered is there.
        with self._log.open(encoding="utf-8", errors="replace") as log:
            log.seek(self._read)
            text = log.read()
            self._read = log.tell()
        return [found[1].strip() for line in text.splitlines() if (found := _LINE.search(line))]


@contextmanager
def recorded(postgresql: PostgreSQL) -> Iterator[Statements]:
    """Let the server write down the statements of all connections that the service opens now."""
    postgresql.execute(f"ALTER ROLE {SERVICE} SET log_statement = 'all'")
    try:
        yield Statements(postgresql.folder / "log")
    finally:
        postgresql.execute(f"ALTER ROLE {SERVICE} RESET log_statement")
