"""Build the artifact of a tag: what is checked, what goes in, and what is reused."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.artifact import requirements, revisions, sbom
from deploy.artifact.bundle import Bundle, Chosen, Member, write
from deploy.artifact.errors import ArtifactError
from deploy.artifact.lock_graph import Name
from deploy.artifact.repository import Entry, Repository, Tag
from deploy.artifact.requirements import Pin
from deploy.artifact.target import Target
from deploy.artifact.wheels import Cache, Wheel, checksum

KIT = Path(__file__).parents[2]
# The host puts things of its own under these names into the folder of a release.
_RESERVED = {".venv", "web.sock", ".requirements.txt", "manifest.json", sbom.NAME}
_LARGE_FILE_POINTER = b"version https://git-lfs.github.com/spec/"
_KEPT_ARTIFACTS = 5
# What ends the name of the bill of materials that lies beside an artifact.
_BILL = ".cdx.json"


@dataclasses.dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
        repository: Folder of the git repository.
        tag: Name of the tag.
        allowed_signers: Who may sign it; None when nobody has to.
        allow_dirty: Whether tracked files may differ from their commit.
        name: Name of the service.
        targets: Kinds of the hosts.
        output: Folder of the artifacts.
        wheels: Folder of the wheels.
    """

    repository: Path
    tag: str
    allowed_signers: Path | None
    allow_dirty: bool
    name: str = ""
    targets: tuple[Target, ...] = ()
    output: Path = Path()
    wheels: Path = Path()


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A file that hosts take."""

    path: Path
    sha256: str
    version: str
    commit: str


def check(order: Order) -> tuple[Repository, Tag]:
    """Check that what is asked for may be released.

    Raises:
        ArtifactError: It may not; the message says why.
    """
    repository = Repository(order.repository)
    tag = repository.tag(order.tag)
    if order.allowed_signers:
        repository.verify(tag, order.allowed_signers)
    if not order.allow_dirty:
        repository.require_clean()
    return repository, tag


def build(order: Order) -> Artifact:
    """Build an artifact, or find the one that was built of the same before.

    Raises:
        ArtifactError: It cannot be built; the message says why.
    """
    repository, tag = check(order)
    uv = requirements.of_uv(KIT)
    order.output.mkdir(parents=True, exist_ok=True)
    path = order.output / f"{order.name}-{tag.name}-{_key(order, tag, uv)}.tar"
    if (sha256 := _built(path)) is not None:
        _say(f"{path.name} is there already")
        return Artifact(path, sha256, tag.name, tag.commit)
    members, links = _tree(repository, tag)
    history = revisions.of_tree(_contents(members))
    pins = requirements.of_tree(_lock_files(members))
    targets = {}
    cache = Cache(order.wheels)
    for target in order.targets:
        targets[str(target)] = _add_target(members, pins, uv, cache, target)
    bill = _bill(order, tag, members, uv)
    members[sbom.NAME] = Member.of(bill)
    sha256 = write(Bundle(order.name, tag, members, links, targets, history), path)
    _note(path.with_suffix(_BILL), bill)
    _note(path.with_suffix(".sha256"), f"{sha256}\n".encode())
    _prune(order, path)
    _say(f"{path.name} built: {path.stat().st_size // 1_000_000} MB")
    return Artifact(path, sha256, tag.name, tag.commit)


def _key(order: Order, tag: Tag, uv: Pin) -> str:
    """Name all that decides the bytes of an artifact, the code of this package included."""
    code = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
    targets = [str(target) for target in order.targets]
    what = [order.name, dataclasses.astuple(tag), targets, dataclasses.astuple(uv), code]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]


def _built(path: Path) -> str | None:
    try:
        sha256 = path.with_suffix(".sha256").read_text(encoding="utf-8").strip()
        if checksum(path) != sha256:
            return None
        path.with_suffix(_BILL).stat()
        # The newest are kept, and this one is wanted again.
        os.utime(path)
    except FileNotFoundError:
        return None
    return sha256


def _note(path: Path, contents: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(contents)
    temporary.replace(path)


def _prune(order: Order, path: Path) -> None:
    found: list[tuple[float, Path]] = []
    for other in order.output.glob(f"{order.name}-v*.tar"):
        # Another build may take one away meanwhile.
        with contextlib.suppress(FileNotFoundError):
            found.append((other.stat().st_mtime, other))
    for _, old in sorted(found)[:-_KEPT_ARTIFACTS]:
        if old != path:
            old.unlink(missing_ok=True)
            for suffix in (".sha256", _BILL):
                old.with_suffix(suffix).unlink(missing_ok=True)


def _tree(repository: Repository, tag: Tag) -> tuple[dict[str, Member], dict[str, str]]:
    members, links = {}, {}
    for entry, contents in repository.contents(repository.tree(tag)):
        _require_place(entry)
        path = f"tree/{entry.path}"
        if entry.is_link:
            links[path] = _link(entry, contents)
        elif contents.startswith(_LARGE_FILE_POINTER):
            raise ArtifactError(f"{entry.path} is in Git LFS, which no tag pins: commit the file.")
        else:
            members[path] = Member.of(contents, entry.mode)
    return members, links


def _require_place(entry: Entry) -> None:
    first = entry.path.partition("/")[0]
    if first in _RESERVED:
        raise ArtifactError(
            f"{entry.path} is in the way: a host keeps a {first} of its own in the folder of a "
            f"release. Rename it."
        )


def _link(entry: Entry, contents: bytes) -> str:
    """Return where a link leads; `..` may only come first, as another link may be on the way."""
    target = contents.decode("utf-8", "replace")
    parts = [part for part in target.split("/") if part not in {"", "."}]
    ups = len(list(itertools.takewhile(lambda part: part == "..", parts)))
    stays = ups <= entry.path.count("/") and ".." not in parts[ups:]
    if not target or target.startswith("/") or not stays:
        raise ArtifactError(
            f"The link {entry.path} leads to {target!r}, out of the tree: a host has nothing there."
        )
    return target


def _contents(members: dict[str, Member]) -> dict[str, bytes]:
    return {
        path.removeprefix("tree/"): member.contents
        for path, member in members.items()
        if path.startswith("tree/") and isinstance(member.contents, bytes)
    }


def _lock_files(members: dict[str, Member]) -> dict[str, bytes]:
    """Return the files that tell the dependencies; those of a workspace have many projects."""
    return {
        name: contents for name, contents in _contents(members).items() if requirements.tells(name)
    }


def _add_target(
    members: dict[str, Member], pins: Sequence[Pin], uv: Pin, cache: Cache, target: Target
) -> Chosen:
    needed = requirements.for_target(pins, target)
    wheels = cache.get([*needed, uv], target)
    paths = {pin: _add_wheel(members, wheel) for pin, wheel in wheels.items()}
    # A host of the kind decides by the markers: it alone knows its patch release.
    lines = [pin.line([f"sha256:{wheels[pin].sha256}"], with_marker=True) for pin in needed]
    name = f"requirements/{target}.txt"
    members[name] = Member.of("".join(f"{line}\n" for line in lines).encode())
    return Chosen(name, tuple(sorted({paths[pin] for pin in needed})), paths[uv])


def _add_wheel(members: dict[str, Member], wheel: Wheel) -> str:
    path = f"wheels/{wheel.name}"
    if path not in members:
        installed, entries = wheel.installed()
        members[path] = Member(wheel.path, wheel.sha256, installed=installed, entries=entries)
    elif members[path].sha256 != wheel.sha256:
        raise ArtifactError(f"Two targets need different files {wheel.name}: build them apart.")
    return path


def _bill(order: Order, tag: Tag, members: dict[str, Member], uv: Pin) -> bytes:
    wheels = {path: one.sha256 for path, one in members.items() if path.startswith("wheels/")}
    lock = _lock_files(members).get(requirements.LOCK)
    return sbom.make(sbom.Contents(order.name, tag, wheels, Name.of(uv.name, uv.version), lock))


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
