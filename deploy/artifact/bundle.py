"""Write an artifact: one tar, the manifest first, the same bytes each time.

The format is that of `slipway_release/manifest.py` of the role `release`, which reads it.
"""

import dataclasses
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from deploy.artifact.repository import Tag
from deploy.artifact.revisions import Revision

FORMAT = 1
_MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Member:
    """A file of an artifact.

    Attributes:
        contents: Its bytes, or the file that has them.
        sha256: Their checksum.
        mode: Permission bits, 0644 or 0755.
        installed: Bytes that a wheel takes once installed.
        entries: Number of files in a wheel.
    """

    contents: bytes | Path
    sha256: str
    mode: int = 0o644
    installed: int = 0
    entries: int = 0

    @classmethod
    def of(cls, contents: bytes, mode: int = 0o644) -> "Member":
        """Make a member of bytes."""
        return cls(contents, hashlib.sha256(contents).hexdigest(), mode)

    @property
    def size(self) -> int:
        """Number of bytes."""
        held = self.contents
        return len(held) if isinstance(held, bytes) else held.stat().st_size


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What one target installs, as paths in the artifact."""

    requirements: str
    wheels: tuple[str, ...]
    uv: str


@dataclasses.dataclass(frozen=True)
class Bundle:
    """All that goes into an artifact.

    Attributes:
        name: Name of the service.
        tag: What is released.
        members: Files by their path.
        links: Symbolic links of the tree; the manifest alone carries them.
        targets: By the name of the target.
        revisions: Of the schema, the oldest first.
    """

    name: str
    tag: Tag
    members: Mapping[str, Member]
    links: Mapping[str, str]
    targets: Mapping[str, Chosen]
    revisions: tuple[Revision, ...] = ()

    def manifest(self) -> bytes:
        """Return the manifest as JSON."""
        values = {
            "format": FORMAT,
            "name": self.name,
            "version": self.tag.name,
            "tag": self.tag.identity,
            "commit": self.tag.commit,
            "files": {path: _facts(member) for path, member in self.members.items()},
            "links": dict(self.links),
            "targets": {name: dataclasses.asdict(chosen) for name, chosen in self.targets.items()},
            "revisions": [dataclasses.asdict(revision) for revision in self.revisions],
        }
        return json.dumps(values, indent=1, sort_keys=True).encode() + b"\n"


def write(bundle: Bundle, path: Path) -> str:
    """Write an artifact and return its checksum; it appears under its name when it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as raw:
            with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
                manifest = Member.of(bundle.manifest())
                _add(tar, _MANIFEST, manifest, bundle.tag.seconds)
                for name in sorted(bundle.members):
                    _add(tar, name, bundle.members[name], bundle.tag.seconds)
            raw.flush()
            os.fsync(raw.fileno())
        with temporary.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return sha256


def _facts(member: Member) -> dict[str, int | str]:
    return {
        "sha256": member.sha256,
        "size": member.size,
        "mode": member.mode,
        "installed": member.installed,
        "entries": member.entries,
    }


def _add(tar: tarfile.TarFile, name: str, member: Member, seconds: int) -> None:
    information = tarfile.TarInfo(name)
    information.size = member.size
    information.mode = member.mode
    information.mtime = seconds
    if isinstance(member.contents, bytes):
        tar.addfile(information, io.BytesIO(member.contents))
        return
    with member.contents.open("rb") as stream:
        tar.addfile(information, stream)
