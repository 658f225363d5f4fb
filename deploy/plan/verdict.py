"""What the lint says of the revisions that a release brings."""

import dataclasses
from collections.abc import Iterator, Sequence

from deploy.artifact.repository import Repository, Tag
from deploy.migrations import findings
from deploy.migrations.knowledge import needs_earlier
from deploy.migrations.lint import lint, of_the_database
from deploy.migrations.sources import of_tree
from deploy.plan.schema import Revision, Schema, Verdict, Workplace, files, told_by


def judged(schema: Schema, repository: Repository, tag: Tag, place: Workplace) -> Schema:
    """Return the same with a verdict on its SQL; without SQL there is none.

    Raises:
        ArtifactError: It cannot be judged.
        ValueError: The command of the tag is no words of a shell.
    """
    pending = _with_sql(schema.pending)
    if not pending:
        return schema
    every = pending
    if any(needs_earlier(revision.sql) for revision in pending):
        every = _with_sql(told_by(repository, tag, place, "base").pending)
    # The plan tells of the database; whether a file is well written is told before it is tagged.
    reports = [
        of_the_database(report)
        for report in lint(every, of_tree(files(repository, tag)), {one.id for one in pending})
    ]
    verdict = Verdict(
        unsafe=any(report.findings for report in reports),
        findings=tuple(line for one in sorted(reports, key=_safe_last) for line in _lines(one)),
    )
    return dataclasses.replace(schema, verdict=verdict)


def _with_sql(revisions: Sequence[Revision]) -> list[findings.Revision]:
    return [
        findings.Revision(one.id, one.phase, one.sql) for one in revisions if one.sql is not None
    ]


def _safe_last(report: findings.Report) -> bool:
    return not report.findings


def _lines(report: findings.Report) -> Iterator[str]:
    for finding in report.findings:
        what = f"{finding.statement}: " if finding.statement else ""
        yield (
            f"{report.revision}: {finding.rule}: {what}{finding.problem} Instead: {finding.advice}"
        )
    accepted = "".join(f"; accepts {rule}: {why}" for rule, why in report.accepted)
    if not report.findings:
        yield f"{report.revision}: safe{accepted}"
