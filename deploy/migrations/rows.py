"""Statements that touch the rows of a table that is in use."""

import re
from collections.abc import Iterator

from deploy.migrations.findings import Finding
from deploy.migrations.knowledge import is_of_alembic, plain
from deploy.migrations.statements import Statement, pieces

_CHANGE = re.compile(
    r"(?<!DO )(?<!FOR )(?<!KEY )(?<!ON )(?<!THEN )\b(?:"
    r"UPDATE (?:ONLY )?(?P<updated>[\w.]+)(?: (?:AS )?(?!SET\b)\w+)? SET\b"
    r"|DELETE FROM (?:ONLY )?(?P<deleted>[\w.]+)"
    r"|MERGE INTO (?:ONLY )?(?P<merged>[\w.]+))",
    re.IGNORECASE,
)
_RUNS = re.compile(r"(?:WITH|UPDATE|DELETE|MERGE|DO|FOR|IF|LOOP|BEGIN)\b", re.IGNORECASE)
_BOUND = re.compile(
    r"\bBETWEEN\b|\bid ?= ?(?:''|\d|[:%$]\w)|\bid IN ?\(\)|\b([\w.]+) ?>=? ?\S+ AND \1 ?<=? ?\S",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"\bLIMIT\b|\bFETCH (?:FIRST|NEXT)\b", re.IGNORECASE)
_WHERE = re.compile(r"\bWHERE\b(.*)", re.IGNORECASE)
_COMMIT = re.compile(r"\bCOMMIT\b", re.IGNORECASE)
_LOOP = re.compile(r"\bLOOP\b", re.IGNORECASE)

_BATCHES = (
    "Change some thousand rows at a time, each batch in its own transaction: a DO block in an "
    "autocommit block that loops over UPDATE … WHERE id IN (SELECT … LIMIT 1000) and COMMIT; or "
    "do it in a job of the application. Accept it when the table stays small."
)


def check(statements: list[Statement], fresh: set[str]) -> Iterator[Finding]:
    """Find changes of all rows, or of nobody knows how many, in one transaction.

    Args:
        statements: Of one revision.
        fresh: Tables that this revision creates.
    """
    for statement in statements:
        if not _RUNS.match(statement.code) or is_of_alembic(statement):
            continue
        if problem := _problem(statement, fresh):
            yield Finding(*problem, _BATCHES, statement.line, statement.excerpt)


def _problem(statement: Statement, fresh: set[str]) -> tuple[str, str] | None:
    for body in statement.bodies if statement.code.upper().startswith("DO") else ():
        inside = list(pieces(body))
        found = next(filter(None, (_problem(one, fresh) for one in inside)), None)
        if found:
            return found
        loops = any(_LOOP.search(one.code) for one in inside)
        changes = any(_tables(one) - fresh for one in inside)
        commits = any(_COMMIT.search(one.code) for one in inside)
        if loops and changes and (statement.in_transaction or not commits):
            return (
                "unbatched-change",
                "Its batches are one transaction: every row stays locked until the last one ends.",
            )
    return _change(statement.code, fresh)


def _tables(statement: Statement) -> set[str]:
    return {_table(found) for found in _CHANGE.finditer(statement.code)}


def _table(found: re.Match[str]) -> str:
    return plain(found["updated"] or found["deleted"] or found["merged"])


def _change(code: str, fresh: set[str]) -> tuple[str, str] | None:
    for found in _CHANGE.finditer(code):
        table = _table(found)
        if table in fresh:
            continue
        where = _WHERE.search(_outer(code[found.end() :]))
        if where is None:
            return (
                "change-of-every-row",
                f"It changes every row of {table} in one transaction, and writers wait for it.",
            )
        if not _BOUND.search(where[1]) and not _LIMIT.search(code):
            return (
                "unbatched-change",
                f"Nothing limits how many rows of {table} it changes and locks in one transaction.",
            )
    return None


def _outer(code: str) -> str:
    """Return a statement without what is in parentheses, up to the one that closes around it."""
    found, depth = "", 0
    for place, sign in enumerate(code):
        if sign == "(":
            if depth == 0:
                found += "(SELECT" if code[place + 1 :].lstrip().upper().startswith("SEL") else "("
            depth += 1
        elif sign == ")":
            if depth == 0:
                break
            depth -= 1
            found += ")" if depth == 0 else ""
        elif depth == 0:
            found += sign
    return found
