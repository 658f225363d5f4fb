"""Put together what a release would do, for each group of hosts with the same live version."""

import dataclasses
from pathlib import Path

from deploy.artifact import requirements
from deploy.artifact.build import KIT, Order, check
from deploy.artifact.errors import ArtifactError
from deploy.artifact.repository import Repository, Tag
from deploy.plan import commits, dependencies, fleet, schema, verdict
from deploy.plan.commits import Commits
from deploy.plan.dependencies import Difference
from deploy.plan.fleet import Fleet, Host
from deploy.plan.schema import Schema, Workplace
from deploy.plan.versions import precedence

INSTALL, UPGRADE, DOWNGRADE = "first release", "upgrade", "downgrade"


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        repository: Folder of the git repository.
        tag: Name of the tag that would be released.
        allowed_signers: Who may sign it; None when nobody has to.
        fleet: The hosts.
        place: Where the SQL of its migrations is made.
    """

    repository: Path
    tag: str
    allowed_signers: Path | None
    fleet: Fleet
    place: Workplace


@dataclasses.dataclass(frozen=True)
class Group:
    """What a release would do to the hosts that have one version.

    Attributes:
        hosts: Their names.
        before: The version that is live; None for nothing.
        kind: A first release, an upgrade or a downgrade.
        gained: Commits that come.
        lost: Commits that go.
        dependencies: What is installed differently.
        uv: Its version before and after; None when it stays or is not known.
        schema: What becomes of the database.
        restore_point: Whether the database is saved first; None when it is not known.
        problems: What cannot be told, and why.
    """

    hosts: tuple[str, ...]
    before: str | None
    kind: str
    gained: Commits | None
    lost: Commits | None
    dependencies: Difference | None
    uv: tuple[str, str] | None
    schema: Schema | None
    restore_point: bool | None
    problems: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a release would do.

    Attributes:
        version: What would be released.
        commit: Identity of its commit.
        order: Names of the hosts in batches, the first one first.
        away: Names of the hosts that do not answer.
        live: Names of those that have it already.
        groups: By the version that is live.
    """

    version: str
    commit: str
    order: tuple[tuple[str, ...], ...]
    away: tuple[str, ...]
    live: tuple[str, ...]
    groups: tuple[Group, ...]


def make(question: Question) -> Plan:
    """Answer a question.

    Raises:
        ArtifactError: The tag may not be released; what else cannot be told is in the plan.
    """
    order = Order(question.repository, question.tag, question.allowed_signers, allow_dirty=True)
    repository, tag = check(order)
    hosts = question.fleet
    groups = fleet.by_version(hosts.hosts, tag.name)
    return Plan(
        version=tag.name,
        commit=tag.commit,
        order=tuple(tuple(batch) for batch in hosts.order()),
        away=hosts.away,
        live=tuple(host.name for host in hosts.hosts if host.current == tag.name),
        groups=tuple(
            _group(question, repository, tag, version, members)
            for version, members in groups.items()
        ),
    )


def _group(
    question: Question, repository: Repository, tag: Tag, version: str | None, hosts: list[Host]
) -> Group:
    problems: list[str] = []
    old = _old(repository, version, problems)
    known = version is None or old is not None
    difference = None
    if known:
        try:
            difference = dependencies.between(repository, old, tag, hosts)
        except ArtifactError as error:
            problems.append(f"The dependencies cannot be compared: {error}")
    return Group(
        hosts=tuple(host.name for host in hosts),
        before=version,
        kind=_kind(version, tag.name),
        gained=commits.gained(repository, old, tag) if known else None,
        lost=commits.lost(repository, old, tag) if old else None,
        dependencies=difference,
        uv=_uv(hosts),
        schema=_schema(question, repository, old, tag, problems) if known else None,
        restore_point=next((h.restore_point for h in hosts if h.restore_point is not None), None),
        problems=tuple(problems),
    )


def _old(repository: Repository, version: str | None, problems: list[str]) -> Tag | None:
    if version is None:
        return None
    try:
        return repository.tag(version)
    except ArtifactError as error:
        problems.append(f"What {version} has cannot be compared: {error}")
        return None


def _kind(before: str | None, after: str) -> str:
    if before is None:
        return INSTALL
    try:
        return UPGRADE if precedence(before) < precedence(after) else DOWNGRADE
    except ValueError:
        return UPGRADE


def _uv(hosts: list[Host]) -> tuple[str, str] | None:
    try:
        after = requirements.of_uv(KIT).version
    except ArtifactError:
        return None
    before = next((host.uv for host in hosts if host.uv and host.uv != after), None)
    return (before, after) if before else None


def _schema(
    question: Question, repository: Repository, old: Tag | None, tag: Tag, problems: list[str]
) -> Schema | None:
    try:
        before = schema.revisions(repository, old) if old else []
        after = schema.revisions(repository, tag)
    except ArtifactError as error:
        problems.append(f"The migrations cannot be compared: {error}")
        return None
    found = schema.difference(before, after, question.fleet.contracted())
    found = schema.with_sql(found, after, repository, tag, question.place)
    try:
        return verdict.judged(found, repository, tag, question.place)
    except (ArtifactError, OSError, ValueError) as error:
        problems.append(f"The lint cannot be asked: {error}")
        return found
