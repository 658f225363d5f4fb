"""The manifest of an artifact: what is in it, where it comes from, with checksums.

`deploy/artifact/bundle.py` writes it; it is the first member of the tar.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from slipway_release import version as versions
from slipway_release.errors import RefusedError

NAME = "manifest.json"
# The bill of materials, for auditors; artifacts of older kits have none.
BILL = "sbom.cdx.json"
FORMAT = 1
PHASES = ("expand", "contract")
_LONGEST = 16_000_000


@dataclasses.dataclass(frozen=True)
class File:
    """A file of the artifact.

    Attributes:
        sha256: Checksum of its contents, in hexadecimal.
        size: Bytes.
        mode: Permission bits once unpacked.
        installed: Bytes that a wheel takes when it is installed, compiled bytecode included.
        entries: Number of files in a wheel.
    """

    sha256: str
    size: int
    mode: int
    installed: int
    entries: int


@dataclasses.dataclass(frozen=True)
class Target:
    """What one kind of host installs: paths of files of the artifact."""

    requirements: str
    wheels: tuple[str, ...]
    uv: str


@dataclasses.dataclass(frozen=True)
class Revision:
    """A revision of the schema.

    Attributes:
        id: Its identifier.
        phase: `expand`, or `contract`: then code that is older than it needs the shape before it.
    """

    id: str
    phase: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The manifest, checked.

    Attributes:
        name: Name of the service.
        version: Version of the release.
        tag: Identity of the tag object in git.
        commit: Identity of the commit in git.
        files: Every file by its path in the artifact.
        links: Symbolic links below `tree/`, with their targets.
        targets: By Python and machine, for example `3.11-x86_64`.
        revisions: Of the schema, the oldest first; artifacts of older kits name none.
        text: The manifest as it was written.
    """

    name: str
    version: str
    tag: str
    commit: str
    files: dict[str, File]
    links: dict[str, str]
    targets: dict[str, Target]
    revisions: tuple[Revision, ...]
    text: str

    def of_target(self, target: str) -> dict[str, File]:
        """Return the files that a host of this kind unpacks."""
        chosen = self.targets[target]
        wanted = {chosen.requirements, chosen.uv, *chosen.wheels, BILL}
        return {
            path: file
            for path, file in self.files.items()
            if path.startswith("tree/") or path in wanted
        }

    def digest(self, target: str) -> str:
        """Return a checksum of all that a host of this kind gets.

        Wheels for other hosts may join an artifact later; this stays the same, and so the bill,
        which lists those too, is no part of it.
        """
        wanted = self.of_target(target).items()
        files = {path: file.sha256 for path, file in wanted if path != BILL}
        what = [self.name, self.version, self.tag, self.commit, files, self.links]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def read(archive: Path) -> Manifest:
    """Read the manifest out of an artifact.

    Raises:
        RefusedError: It is not an artifact, or one of another format.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            member = tar.next()
            stream = tar.extractfile(member) if member and member.name == NAME else None
            if member is None or stream is None or member.size > _LONGEST:
                raise RefusedError(f"{archive} does not begin with a {NAME}: build it again.")
            text = stream.read().decode()
        return parse(text)
    except (tarfile.TarError, UnicodeDecodeError) as error:
        raise RefusedError(f"{archive} is not an artifact ({error}): copy it again.") from error


def parse(text: str) -> Manifest:
    """Read a manifest from JSON and check every path in it.

    Raises:
        RefusedError: It is of another format, or names a path outside the release.
    """
    try:
        values: dict[str, Any] = json.loads(text)
        if values["format"] != FORMAT:
            raise RefusedError(
                f"The artifact has format {values['format']}, this host knows {FORMAT}: run "
                "playbook.yml to bring the host up to date."
            )
        manifest = Manifest(
            name=str(values["name"]),
            version=str(values["version"]),
            tag=str(values["tag"]),
            commit=str(values["commit"]),
            files={path: File(**file) for path, file in values["files"].items()},
            links={path: str(target) for path, target in values["links"].items()},
            targets={
                name: Target(target["requirements"], tuple(target["wheels"]), target["uv"])
                for name, target in values["targets"].items()
            },
            revisions=revisions_of(values),
            text=text,
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RefusedError(f"The manifest of the artifact cannot be read: {error!r}.") from error
    _check(manifest)
    return manifest


def revisions_of(values: dict[str, Any]) -> tuple[Revision, ...]:
    """Return the revisions that a manifest names.

    Raises:
        RefusedError: One of them is of a phase that this host does not know.
        LookupError, TypeError: It is no list of revisions.
    """
    found = tuple(Revision(str(one["id"]), one["phase"]) for one in values.get("revisions", []))
    for revision in found:
        if revision.phase not in PHASES or not revision.id.isprintable():
            raise RefusedError(
                f"The artifact has revision {revision.id!r} of phase {revision.phase!r}: this host "
                f"knows {' and '.join(PHASES)}."
            )
    return found


def _check(manifest: Manifest) -> None:
    versions.precedence(manifest.version)
    for path in [*manifest.files, *manifest.links]:
        ancestors = (str(parent) for parent in PurePosixPath(path).parents)
        if not _inside(path) or any(parent in manifest.links for parent in ancestors):
            raise RefusedError(f"The artifact names the path {path!r}, which leaves the release.")
    for path, target in manifest.links.items():
        if not path.startswith("tree/") or not _stays(path, target):
            raise RefusedError(
                f"The artifact has a link {path!r} → {target!r}, which leaves the release."
            )
    for name, chosen in manifest.targets.items():
        for path in (chosen.requirements, chosen.uv, *chosen.wheels):
            if path not in manifest.files:
                raise RefusedError(f"The artifact lacks {path}, which target {name} needs.")
    for path, file in manifest.files.items():
        if file.mode & ~0o755 or file.size < 0:
            raise RefusedError(f"The artifact gives {path} the mode {file.mode:o}: refused.")


def _inside(path: str) -> bool:
    parts = path.split("/")
    return "\0" not in path and all(part not in {"", ".", ".."} for part in parts)


def _stays(path: str, target: str) -> bool:
    """Tell whether a link's target lies in the tree.

    `..` may only come first: after another link it would count from where that one leads.
    """
    if not target or target.startswith("/") or "\0" in target:
        return False
    parts = [part for part in target.split("/") if part not in {"", "."}]
    ups = len(list(itertools.takewhile(lambda part: part == "..", parts)))
    return ups <= path.count("/") - 1 and ".." not in parts[ups:]
