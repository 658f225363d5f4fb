"""What two tags install differently: packages, the Python that they need, and uv."""

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from deploy.artifact import requirements
from deploy.artifact.errors import ArtifactError
from deploy.artifact.repository import Repository, Tag
from deploy.artifact.target import Target
from deploy.plan.fleet import Host

# No Python had as many patch releases; a host tells its minor version only.
_LAST_PATCH = 40


@dataclasses.dataclass(frozen=True)
class Change:
    """A package whose versions differ; one may have several, for different kinds of hosts."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Difference:
    """What changes for the hosts, in the order of names.

    Attributes:
        changes: Of packages.
        python: The Pythons that the tags take, before and after; None when they are the same.
        unfit: Names of hosts whose Python the new tag does not take.
    """

    changes: tuple[Change, ...]
    python: tuple[str, str] | None
    unfit: tuple[str, ...]


def between(repository: Repository, old: Tag | None, new: Tag, hosts: Iterable[Host]) -> Difference:
    """Compare the locks of two tags, as far as they are for these hosts.

    Raises:
        ArtifactError: A lock cannot be read.
    """
    hosts = list(hosts)
    targets = {Target.parse(host.target) for host in hosts if host.target}
    files = _files(repository, new)
    after = _versions(files, targets)
    needed = _python(files)
    before: dict[str, tuple[str, ...]] = {}
    python = None
    if old is not None:
        files = _files(repository, old)
        before = _versions(files, targets)
        python = (_python(files), needed)
    return Difference(
        changes=tuple(
            Change(name, before.get(name, ()), after.get(name, ()))
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ),
        python=python if python is not None and python[0] != python[1] else None,
        unfit=tuple(host.name for host in hosts if not _fits(needed, host.target)),
    )


def _files(repository: Repository, tag: Tag) -> dict[str, bytes]:
    chosen = [
        entry
        for entry in repository.tree(tag)
        if requirements.tells(entry.path) and not entry.is_link
    ]
    return {entry.path: contents for entry, contents in repository.contents(chosen)}


def _versions(files: Mapping[str, bytes], targets: set[Target]) -> dict[str, tuple[str, ...]]:
    pins = requirements.of_tree(files)
    if targets:
        pins = [pin for target in targets for pin in requirements.for_target(pins, target)]
    found: dict[str, set[str]] = {}
    for pin in pins:
        found.setdefault(pin.name, set()).add(pin.version)
    return {name: tuple(sorted(versions)) for name, versions in found.items()}


def _python(files: Mapping[str, bytes]) -> str:
    """Return the Pythons that a tree takes (PEP 440), '' when it does not say."""
    try:
        lock = tomllib.loads(files.get(requirements.LOCK, b"").decode())
        project: dict[str, Any] = tomllib.loads(files.get(requirements.PROJECT, b"").decode())
        stated = lock.get("requires-python") or project.get("project", {}).get("requires-python")
        return str(stated or "")
    except (ValueError, AttributeError) as error:
        raise ArtifactError(f"The tag's {requirements.PROJECT} is no TOML: {error}") from error


def _fits(needed: str, target: str) -> bool:
    if not needed or not target:
        return True
    try:
        accepted = SpecifierSet(needed)
    except InvalidSpecifier:
        return True
    minor = Target.parse(target).minor
    return any(accepted.contains(f"3.{minor}.{patch}") for patch in range(_LAST_PATCH))
