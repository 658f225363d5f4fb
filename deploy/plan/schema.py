"""What a release would do to the database: the revisions that it brings, in their own SQL."""

import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.artifact.errors import ArtifactError
from deploy.artifact.repository import Repository, Tag
from deploy.artifact.revisions import CONTRACT, of_tree
from deploy.plan.tree import Tree


@dataclasses.dataclass(frozen=True)
class Revision:
    """A revision that a release brings.

    Attributes:
        id: Its identifier.
        phase: `expand` or `contract`.
        summary: What it is for, '' when nobody said.
        sql: What it runs; None when that cannot be told.
    """

    id: str
    phase: str
    summary: str = ""
    sql: str | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a lint says of the SQL of all pending revisions.

    Attributes:
        unsafe: Whether one of them is a danger.
        findings: A line each, the worst first.
    """

    unsafe: bool
    findings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Schema:
    """What a release would do to the database.

    Attributes:
        pending: The revisions that were not run, the oldest first.
        runs: Those of them that the release would run.
        waits: The first contract revision among them and all after it, which wait for
            `slipway contract`.
        kept: Revisions of the live version that the new one lacks: they stay.
        problem: Why the SQL cannot be shown, '' when it is.
        verdict: What the lint says of the SQL; None when it was not asked.
    """

    pending: tuple[Revision, ...] = ()
    runs: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    problem: str = ""
    verdict: Verdict | None = None


@dataclasses.dataclass(frozen=True)
class Workplace:
    """Where the SQL is made.

    Attributes:
        command: Of the tree, prints its pending revisions as JSON; '' for none.
        plans: Folder of the trees.
        wheels: Folder of the wheels.
    """

    command: str
    plans: Path
    wheels: Path


def revisions(repository: Repository, tag: Tag) -> list[Revision]:
    """Return the revisions of a tag's tree, the oldest first, without running any of it.

    Raises:
        ArtifactError: They cannot be read; the message says where.
    """
    return [Revision(one.id, one.phase) for one in of_tree(files(repository, tag))]


def files(repository: Repository, tag: Tag) -> dict[str, bytes]:
    """Return what may belong to the revisions of a tag's tree: contents by path."""
    wanted = [
        entry
        for entry in repository.tree(tag)
        if not entry.is_link and entry.path.endswith((".py", ".ini", ".toml"))
    ]
    return {entry.path: contents for entry, contents in repository.contents(wanted)}


def difference(
    before: Sequence[Revision], after: Sequence[Revision], contracted: frozenset[str]
) -> Schema:
    """Compare the revisions of two trees, each from the oldest to the newest.

    A contract revision is no part of the release that brought it, and what comes after it is not
    either: both are pending until a host says that it was run.
    """
    done = {revision.id for revision in before[: _first_waiting(before, contracted)]}
    pending = tuple(
        revision for revision in after if revision.id not in done and revision.id not in contracted
    )
    names = tuple(revision.id for revision in pending)
    first = _first_waiting(pending, contracted)
    held = {revision.id for revision in after}
    return Schema(
        pending=pending,
        runs=names[:first],
        waits=names[first:],
        kept=tuple(revision.id for revision in before if revision.id not in held),
    )


def _first_waiting(revisions: Sequence[Revision], contracted: frozenset[str]) -> int:
    """Return the place of the first contract revision that was not run, or the length."""
    places = (
        place
        for place, revision in enumerate(revisions)
        if revision.phase == CONTRACT and revision.id not in contracted
    )
    return next(places, len(revisions))


def with_sql(
    schema: Schema, after: Sequence[Revision], repository: Repository, tag: Tag, place: Workplace
) -> Schema:
    """Return the same with the SQL of the tag's own command, or with the reason why not."""
    if not schema.pending or not place.command:
        return schema
    names = [revision.id for revision in after]
    first = names.index(schema.pending[0].id)
    start = names[first - 1] if first else "base"
    try:
        answer = told_by(repository, tag, place, start)
    except (ArtifactError, OSError, ValueError) as error:
        return dataclasses.replace(schema, problem=str(error))
    wanted = {revision.id for revision in schema.pending}
    told = {revision.id: revision for revision in answer.pending if revision.id in wanted}
    silent = [revision.id for revision in schema.pending if revision.id not in told]
    return dataclasses.replace(
        schema,
        pending=tuple(told.get(revision.id, revision) for revision in schema.pending),
        runs=tuple(one for one in answer.runs if one in told),
        waits=tuple(one for one in answer.waits if one in told),
        problem=f"`{place.command}` says nothing of {', '.join(silent)}" if silent else "",
    )


def told_by(repository: Repository, tag: Tag, place: Workplace, start: str) -> Schema:
    """Return what the tag's own command says is pending in a database.

    Args:
        repository: The repository.
        tag: The tag.
        place: The command, and where its tree is made.
        start: The revision that the database is at, `base` for none.

    Raises:
        ArtifactError: It cannot be run, or says something else.
        ValueError: The command is no words of a shell.
    """
    tree = Tree(repository, tag, place.plans, place.wheels)
    return _read(tree.run([*shlex.split(place.command), "--from", start]), place.command)


def _read(text: str, command: str) -> Schema:
    """Read what the command printed.

    Raises:
        ArtifactError: It is not what is asked of it.
    """
    try:
        values: dict[str, Any] = json.loads(text)
        return Schema(
            pending=tuple(
                Revision(
                    id=str(one["revision"]),
                    phase=str(one["phase"]),
                    summary=str(one.get("summary") or ""),
                    sql=str(one["sql"]),
                )
                for one in values["pending"]
            ),
            runs=tuple(str(one) for one in values["runs"]),
            waits=tuple(str(one) for one in values["waits"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"`{command}` did not print its pending revisions as JSON ({error!r}): see "
            f"docs/your-own-app.md"
        ) from error
