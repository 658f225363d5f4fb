"""What the lint reads and what it says."""

import dataclasses

from deploy.artifact.revisions import CONTRACT, EXPAND

__all__ = ["CONTRACT", "EXPAND", "Finding", "Report", "Revision"]


@dataclasses.dataclass(frozen=True)
class Revision:
    """A revision as it would run.

    Attributes:
        id: Its identifier.
        phase: `expand` or `contract`.
        sql: What it runs on PostgreSQL; one transaction, unless it ends it by itself.
    """

    id: str
    phase: str
    sql: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that is wrong with a revision.

    Attributes:
        rule: Its name, by which it can be accepted.
        problem: A sentence on what is wrong.
        advice: A sentence on what to do instead.
        line: Of the SQL, from 1; of the file when there is no statement.
        statement: The beginning of the statement; '' when the file itself is meant.
    """

    rule: str
    problem: str
    advice: str
    line: int
    statement: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """What is said of one revision.

    Attributes:
        revision: Its identifier.
        phase: `expand` or `contract`.
        path: Its file; '' when that is not known.
        findings: What is wrong, in the order of the statements.
        accepted: Rules whose findings it accepts, and why.
    """

    revision: str
    phase: str
    path: str
    findings: tuple[Finding, ...] = ()
    accepted: tuple[tuple[str, str], ...] = ()
