"""What squawk does not look at: it knows no phases, and no revisions besides the one it reads."""

import re
from collections.abc import Iterator

from deploy.migrations import rows
from deploy.migrations.findings import EXPAND, Finding, Revision
from deploy.migrations.knowledge import Knowledge, index_of, is_of_alembic, plain
from deploy.migrations.statements import Statement

_CONTRACTS = re.compile(
    r"(?:DROP (?!INDEX\b)(?:TABLE (?:IF EXISTS )?(?P<table>[\w.]+))?|TRUNCATE\b"
    r"|ALTER\b.*\b(?:DROP|RENAME|SET SCHEMA)\b)",
    re.IGNORECASE,
)
_CONCURRENT = re.compile(
    r"(?:(?:CREATE|DROP|REINDEX)\b.*|ALTER TABLE\b.*\bDETACH PARTITION\b.*)\bCONCURRENTLY\b",
    re.IGNORECASE,
)
_REPEATABLE = re.compile(r"IF (?:NOT )?EXISTS|^(?:REINDEX|ALTER)\b", re.IGNORECASE)
_REWRITES = re.compile(
    r"(?:VACUUM\b.*\bFULL\b|CLUSTER\b|LOCK\b"
    r"|ALTER TABLE\b.*\bSET (?:UNLOGGED|LOGGED|TABLESPACE)\b)",
    re.IGNORECASE,
)
_SETTING = re.compile(r"(?:SET|RESET)\b", re.IGNORECASE)
_ALONE = (
    "Give each operation that runs outside of a transaction a revision of its own, with nothing "
    "else in it."
)


def check(
    revision: Revision, statements: list[Statement], known: Knowledge, named: set[int]
) -> Iterator[Finding]:
    """Find what is wrong with a revision.

    Args:
        revision: The revision.
        statements: Its SQL.
        known: What it makes, and what those before it have made.
        named: Lines of statements in which squawk has found that they contract.
    """
    if revision.phase == EXPAND:
        yield from _contracting(statements, known, named)
    yield from rows.check(statements, known.tables)
    yield from _concurrent(statements)
    for statement in statements:
        if _REWRITES.match(statement.code):
            yield _found(
                statement,
                "locks-a-table",
                "It locks a table against everybody until the transaction ends.",
                "Leave it out of revisions: do it in a maintenance window, or by pg_repack.",
            )


def _contracting(
    statements: list[Statement], known: Knowledge, named: set[int]
) -> Iterator[Finding]:
    for statement in statements:
        found = _CONTRACTS.match(statement.code)
        if not found or statement.line in named:
            continue
        if found["table"] and plain(found["table"]) in known.tables:
            continue
        yield _found(
            statement,
            "contracts",
            "It takes something away, and the release before this one may still use it.",
            'Do it in a later revision with phase = "contract", which runs when no release needs '
            "the old shape any more.",
        )


def _concurrent(statements: list[Statement]) -> Iterator[Finding]:
    made = [one for one in statements if _CONCURRENT.match(one.code)]
    for statement in made:
        if statement.in_transaction:
            yield _found(
                statement,
                "concurrent-in-transaction",
                "PostgreSQL refuses CONCURRENTLY inside of a transaction.",
                "Run it in `with op.get_context().autocommit_block():`.",
            )
        if not _REPEATABLE.search(statement.code):
            yield _found(
                statement,
                "concurrent-not-repeatable",
                "When it fails half-way, what it leaves behind lets it fail again.",
                "Say IF EXISTS or IF NOT EXISTS, and drop the index of a failed attempt first "
                "(here: migrations.indexes.create_index_concurrently).",
            )
    yield from _alone(statements)


def _alone(statements: list[Statement]) -> Iterator[Finding]:
    """Find what shares a revision with something that cannot be taken back with it."""
    work = [one for one in statements if not is_of_alembic(one) and not _SETTING.match(one.code)]
    outside = [one for one in work if not one.in_transaction or _CONCURRENT.match(one.code)]
    if not outside:
        return
    # An index that is dropped and made again is one operation.
    first = index_of(outside[0])
    others = [one for one in work if one is not outside[0] and (index_of(one) or None) != first]
    if not others:
        return
    several = all(_CONCURRENT.match(one.code) for one in work)
    yield _found(
        others[0],
        "concurrent-not-alone",
        "Its revision has several concurrent operations: when one fails, the ones before it stay, "
        "and the revision is not noted."
        if several
        else "Its revision has another operation outside of the transaction: when one of them "
        "fails, the other one stays, and the revision is not noted.",
        _ALONE,
    )


def _found(statement: Statement, rule: str, problem: str, advice: str) -> Finding:
    return Finding(rule, problem, advice, statement.line, statement.excerpt)
