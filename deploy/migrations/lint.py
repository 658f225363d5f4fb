"""Judges revisions by their SQL: by the rules of squawk, and by the checks of this package."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence

from deploy.artifact.errors import ArtifactError
from deploy.migrations import checks, squawk
from deploy.migrations.findings import EXPAND, Finding, Report, Revision
from deploy.migrations.knowledge import gather
from deploy.migrations.sources import ACCEPTS, HIDDEN, Source
from deploy.migrations.statements import Statement, split


def lint(
    revisions: Sequence[Revision],
    sources: Mapping[str, Source],
    judged: Collection[str] | None = None,
) -> list[Report]:
    """Judge revisions, the oldest first.

    Args:
        revisions: Their SQL, the oldest first, and as many earlier ones as are known.
        sources: Their files, by identifier; one that is missing accepts nothing.
        judged: Those that are judged; all of them by default.

    Raises:
        ArtifactError: squawk is not there or does not work.
    """
    chosen = [one for one in revisions if judged is None or one.id in judged]
    from_squawk = dict(zip((one.id for one in chosen), squawk.judge(chosen), strict=True))
    earlier: list[list[Statement]] = []
    reports = []
    for revision in revisions:
        statements = split(revision.sql)
        if revision.id in from_squawk:
            found = _judge(revision, statements, earlier, from_squawk[revision.id])
            reports.append(_report(revision, found, sources.get(revision.id, Source(""))))
        earlier.append(statements)
    return reports


def read(text: str) -> list[Revision]:
    """Read the pending revisions of a plan as JSON.

    Raises:
        ArtifactError: It is none; the message says what is missing.
    """
    try:
        return [
            Revision(str(one["revision"]), str(one["phase"]), str(one["sql"]))
            for one in json.loads(text)["pending"]
        ]
    except (ValueError, LookupError, TypeError) as error:
        raise ArtifactError(
            f"This is no plan of pending revisions as JSON ({error!r}): see docs/your-own-app.md"
        ) from error


def _judge(
    revision: Revision,
    statements: list[Statement],
    earlier: list[list[Statement]],
    from_squawk: list[Finding],
) -> list[Finding]:
    known = gather(earlier, statements)
    at = {(statement.line, statement.excerpt): statement for statement in statements}
    kept = []
    for finding in from_squawk:
        statement = at.get((finding.line, finding.statement))
        if statement is None or not known.is_harmless(finding.rule, statement):
            kept.append(finding)
    named = {finding.line for finding in from_squawk} if revision.phase == EXPAND else set()
    found = [*kept, *checks.check(revision, statements, known, named)]
    return sorted(dict.fromkeys(found), key=lambda finding: finding.line)


def _report(revision: Revision, found: list[Finding], source: Source) -> Report:
    rules = {finding.rule for finding in (*source.findings, *found)}
    needless = [
        Finding(
            "needless-acceptance",
            f"It accepts {rule}, which finds nothing in it.",
            f"Take the rule out of {ACCEPTS}.",
            1,
        )
        for rule in source.accepts
        if rule not in rules
    ]
    return Report(
        revision=revision.id,
        phase=revision.phase,
        path=source.path,
        findings=tuple(
            finding
            for finding in (*source.findings, *found, *needless)
            if finding.rule not in source.accepts
        ),
        accepted=tuple((rule, why) for rule, why in source.accepts.items() if rule in rules),
    )


def of_the_database(report: Report) -> Report:
    """Return a report without what is wrong with the file but not with what it does."""
    kept = tuple(one for one in report.findings if one.statement or one.rule == HIDDEN)
    return dataclasses.replace(report, findings=kept)
