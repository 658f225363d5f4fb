"""What the statements of revisions say of tables, columns and constraints."""

import dataclasses
import re
from collections.abc import Iterable, Iterator

from deploy.migrations.statements import Statement

# Its table may have another name, its column never has.
_VERSION = re.compile(
    r"(?:CREATE TABLE|INSERT INTO|UPDATE|DELETE FROM) [\w.]+ .*\bversion_num\b", re.IGNORECASE
)
_TABLE = re.compile(
    r"CREATE (?:UNLOGGED |TEMP(?:ORARY)? )?TABLE (?:IF NOT EXISTS )?([\w.]+)", re.IGNORECASE
)
_ALTER = re.compile(r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?([\w.]+)", re.IGNORECASE)
_COLUMN = re.compile(r"\bADD COLUMN (?:IF NOT EXISTS )?(\w+)", re.IGNORECASE)
_INDEX = re.compile(
    r"CREATE (?:UNIQUE )?INDEX (?:CONCURRENTLY )?(?:IF NOT EXISTS )?(\w+) ON", re.IGNORECASE
)
_DROPPED = re.compile(r"DROP INDEX (?:CONCURRENTLY )?(?:IF EXISTS )?([\w.]+)", re.IGNORECASE)
_NOT_NULL = re.compile(r"ALTER (?:COLUMN )?(\w+) SET NOT NULL", re.IGNORECASE)
_CHECK = re.compile(
    r"ADD CONSTRAINT (\w+) CHECK ?\(+ ?(\w+) IS NOT NULL ?\)+( NOT VALID)?", re.IGNORECASE
)
_VALIDATED = re.compile(r"VALIDATE CONSTRAINT (\w+)", re.IGNORECASE)
_KEY = re.compile(r"(?:FOREIGN KEY|UNIQUE) ?\(([^)]*)\)", re.IGNORECASE)
_RESTRICTION = re.compile(r"\bADD CONSTRAINT\b|\bADD (?:FOREIGN|CHECK|UNIQUE)\b", re.IGNORECASE)


@dataclasses.dataclass
class Knowledge:
    """What earlier statements have made.

    Attributes:
        tables: That the revision itself creates: nobody uses them.
        columns: That the revision itself adds, with their tables: the release before it does not
            write them.
        indexes: That the revision itself makes.
        full: Columns of which a constraint says that they are never null, with their tables.
    """

    tables: set[str] = dataclasses.field(default_factory=set)
    columns: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    indexes: set[str] = dataclasses.field(default_factory=set)
    full: set[tuple[str, str]] = dataclasses.field(default_factory=set)

    def is_harmless(self, rule: str, statement: Statement) -> bool:
        """Tell whether a rule of squawk, which looks at one revision, is wrong here."""
        if rule == "adding-not-nullable-field":
            return self._is_full(statement)
        if rule == "ban-drop-index":
            # What makes an index again drops the broken one of an earlier attempt first.
            return dropped(statement) in self.indexes
        if rule == "ban-new-write-restriction":
            return self._is_full(statement) or self._restricts_what_is_new(statement)
        return False

    def _is_full(self, statement: Statement) -> bool:
        wanted = {(altered(statement), name.lower()) for name in _NOT_NULL.findall(statement.code)}
        return bool(wanted) and wanted <= self.full

    def _restricts_what_is_new(self, statement: Statement) -> bool:
        if not _RESTRICTION.search(statement.code) and not _NOT_NULL.search(statement.code):
            return bool(_COLUMN.search(statement.code))
        keys = _KEY.findall(statement.code)
        table = altered(statement)
        names = {(table, name.strip().lower()) for key in keys for name in key.split(",")}
        return bool(names) and names <= self.columns


def gather(earlier: Iterable[Iterable[Statement]], own: Iterable[Statement]) -> Knowledge:
    """Return what is known before a revision runs, from those before it and from itself."""
    known = Knowledge()
    for statement in own:
        if found := _TABLE.match(statement.code):
            known.tables.add(plain(found[1]))
        if found := _INDEX.match(statement.code):
            known.indexes.add(plain(found[1]))
        for name in _COLUMN.findall(statement.code):
            known.columns.add((altered(statement), name.lower()))
    known.full = set(_full(one for revision in (*earlier, own) for one in revision))
    return known


def _full(statements: Iterable[Statement]) -> Iterator[tuple[str, str]]:
    waiting: dict[tuple[str, str], str] = {}
    for statement in statements:
        table = altered(statement)
        for name, column, is_waiting in _CHECK.findall(statement.code):
            waiting[table, name.lower()] = column.lower()
            if not is_waiting:
                yield table, column.lower()
        for name in _VALIDATED.findall(statement.code):
            if column := waiting.get((table, name.lower())):
                yield table, column


def altered(statement: Statement) -> str:
    """Return the table that a statement alters; '' when it alters none."""
    found = _ALTER.match(statement.code)
    return plain(found[1]) if found else ""


def dropped(statement: Statement) -> str:
    """Return the index that a statement drops; '' when it drops none."""
    found = _DROPPED.match(statement.code)
    return plain(found[1]) if found else ""


def index_of(statement: Statement) -> str:
    """Return the index that a statement makes or drops; '' when it does neither."""
    found = _INDEX.match(statement.code)
    return plain(found[1]) if found else dropped(statement)


def needs_earlier(sql: str) -> bool:
    """Tell whether a judgement on SQL depends on what earlier revisions have made."""
    return _NOT_NULL.search(sql) is not None


def is_of_alembic(statement: Statement) -> bool:
    """Tell whether a statement only writes down which revision was run."""
    return _VERSION.match(statement.code) is not None


def plain(name: str) -> str:
    """Return a name as all statements are compared by."""
    return name.lower().removeprefix("public.")
