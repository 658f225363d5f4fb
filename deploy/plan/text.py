"""A plan as lines that a person reads."""

import textwrap
from collections.abc import Iterator, Sequence

from deploy.artifact.revisions import CONTRACT
from deploy.plan.commits import Commits
from deploy.plan.dependencies import Change, Difference
from deploy.plan.plan import DOWNGRADE, Group, Plan
from deploy.plan.schema import Revision, Schema, Verdict


def lines(plan: Plan) -> Iterator[str]:
    """Return a plan as lines, one block a group of hosts."""
    for group in plan.groups:
        hosts, before = ", ".join(group.hosts), group.before or "nothing"
        yield f"{hosts}: {before} → {plan.version} ({group.kind})"
        yield from _indented([*_order(plan), *_group(group)])
    if plan.live:
        yield f"{', '.join(plan.live)}: {plan.version} is live already"


def _indented(found: Sequence[str], depth: int = 1) -> Iterator[str]:
    for line in found:
        yield textwrap.indent(line, "  " * depth)


def _order(plan: Plan) -> Iterator[str]:
    batches = [batch for batch in plan.order if batch]
    if len(batches) > 1 or plan.away:
        alone = " alone" if len(batches) > 1 and len(batches[0]) == 1 else ""
        names = ", then ".join(", ".join(batch) for batch in batches[1:])
        yield f"Order: {', '.join(batches[0])}{alone}" + (f", then {names}" if names else "")
    if plan.away:
        yield f"Away: {', '.join(plan.away)}; a host catches up at its return"


def _group(group: Group) -> Iterator[str]:
    if group.kind == DOWNGRADE:
        yield "Refused unless it is asked for: -e release_allow_downgrade=true"
    if group.gained:
        yield from _commits(group.gained, "Commits")
    if group.lost and group.lost.count:
        yield from _commits(group.lost, "Commits that are live and go away")
    if group.dependencies:
        yield from _dependencies(group.dependencies)
    if group.uv:
        yield f"uv: {group.uv[0]} → {group.uv[1]}"
    if group.schema:
        yield from _schema(group.schema)
    yield from group.problems
    if group.restore_point is not None:
        yield f"Restore point: {'taken before anything changes' if group.restore_point else 'none'}"


def _commits(commits: Commits, title: str) -> Iterator[str]:
    yield f"{title}: {commits.count or 'none'}"
    yield from _indented(commits.shown)
    if commits.count > len(commits.shown):
        yield f"  and {commits.count - len(commits.shown)} before them"


def _dependencies(difference: Difference) -> Iterator[str]:
    count = len(difference.changes)
    yield f"Dependencies: {f'{count} changed' if count else 'unchanged'}"
    yield from _indented([_change(change) for change in difference.changes])
    if difference.python:
        before, after = (python or "any" for python in difference.python)
        yield f"Python: {before} → {after}"
    if difference.unfit:
        yield f"NOT POSSIBLE: the tag does not take the Python of {', '.join(difference.unfit)}"


def _change(change: Change) -> str:
    before, after = ", ".join(change.before), ", ".join(change.after)
    if not before:
        return f"+ {change.name} {after}"
    return f"~ {change.name} {before} → {after}" if after else f"- {change.name} {before}"


def _schema(schema: Schema) -> Iterator[str]:
    if not schema.pending:
        yield "Migrations: none"
    else:
        counts = [f"{len(schema.runs) or 'none'} would run", f"{len(schema.waits)} wait"]
        yield f"Migrations: {', '.join(counts[: 2 if schema.waits else 1])}"
    for revision in schema.pending:
        yield from _indented(list(_revision(revision, schema)))
    if schema.problem:
        yield f"The SQL cannot be shown: {schema.problem}"
    if any(revision.sql is not None for revision in schema.pending):
        yield from _verdict(schema.verdict)
    if schema.kept:
        yield f"Revisions that stay, though the tag lacks them: {', '.join(schema.kept)}"


def _verdict(verdict: Verdict | None) -> Iterator[str]:
    if verdict is None:
        yield "Lint: not asked"
        return
    yield f"Lint: {'UNSAFE' if verdict.unsafe else 'safe'}"
    yield from _indented(verdict.findings)


def _revision(revision: Revision, schema: Schema) -> Iterator[str]:
    what = f": {revision.summary}" if revision.summary else ""
    waiting = "waits for" if revision.phase == CONTRACT else "waits behind"
    when = f", {waiting} `slipway contract`" if revision.id in schema.waits else ""
    yield f"{revision.id} ({revision.phase}{when}){what}"
    if revision.sql is not None:
        yield from _indented([line for line in revision.sql.splitlines() if line.strip()])
