"""Take an artifact apart, as the deploy user: ``python -m slipway_release.unpack …``.

Nothing of the tar decides where anything goes: the manifest names every file, and a member that
is not in it, or differs from its checksum, ends the work. The only links are those of the
manifest, made after all files, so that no file can be written through one.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from slipway_release import manifest as manifests
from slipway_release.errors import RefusedError, SlipwayError
from slipway_release.manifest import File, Manifest

_BLOCK = 1 << 20


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    total = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            total.update(block)
    return total.hexdigest()


def unpack(archive: Path, target: str, release: Path, wheels: Path) -> None:
    """Write the tree, the requirements and the wheels of one target.

    Args:
        archive: The artifact.
        target: The kind of this host.
        release: A folder that does not exist yet.
        wheels: The folder of wheels that all releases share; those already right stay.

    Raises:
        RefusedError: A member is missing, unknown, or not what the manifest says.
    """
    manifest = manifests.read(archive)
    wanted = manifest.of_target(target)
    release.mkdir(mode=0o755)
    wheels.mkdir(mode=0o755, exist_ok=True)
    seen = set()
    for path, stream, seconds in _members(archive, manifest):
        if path in wanted and path not in seen:
            seen.add(path)
            destination = _destination(path, manifest.targets[target].requirements, release, wheels)
            if destination.parent == wheels and _is(destination, wanted[path]):
                continue
            _write(stream, destination, path, wanted[path], seconds)
    if missing := sorted(set(wanted) - seen):
        raise RefusedError(f"The artifact lacks {missing[0]}: copy it again.")
    for path, link in manifest.links.items():
        place = release / path.removeprefix("tree/")
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        place.symlink_to(link)
    (release / manifests.NAME).write_text(manifest.text, encoding="utf-8")


def _members(archive: Path, manifest: Manifest) -> Iterator[tuple[str, IO[bytes], float]]:
    with tarfile.open(archive, "r:") as tar:
        for member in tar:
            if member.name == manifests.NAME or member.name in manifest.links:
                continue
            if member.name not in manifest.files or not member.isreg():
                raise RefusedError(
                    f"The artifact holds {member.name!r}, which its manifest does not name."
                )
            stream = tar.extractfile(member)
            if stream is not None:
                yield member.name, stream, member.mtime


def _destination(path: str, requirements: str, release: Path, wheels: Path) -> Path:
    if path == requirements:
        return release / REQUIREMENTS
    if path.startswith("tree/"):
        return release / path.removeprefix("tree/")
    if path == manifests.BILL:
        return release / path
    return wheels / path.rpartition("/")[2]


# Its name begins with a dot so that it cannot meet a requirements.txt of the service.
REQUIREMENTS = ".requirements.txt"


def _is(path: Path, file: File) -> bool:
    return path.is_file() and path.stat().st_size == file.size and checksum(path) == file.sha256


def _write(stream: IO[bytes], destination: Path, path: str, file: File, seconds: float) -> None:
    destination.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # Wheels are shared: a half written one must never have the final name.
    temporary = destination.with_name(f".{destination.name}.new")
    temporary.unlink(missing_ok=True)
    total = hashlib.sha256()
    size = 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(temporary, flags, file.mode), "wb") as output:
        while block := stream.read(_BLOCK):
            total.update(block)
            size += len(block)
            output.write(block)
        os.fchmod(output.fileno(), file.mode)
    if total.hexdigest() != file.sha256 or size != file.size:
        temporary.unlink()
        raise RefusedError(f"{path} in the artifact differs from its checksum: copy it again.")
    os.utime(temporary, (seconds, seconds))
    temporary.replace(destination)


def main(arguments: list[str]) -> int:
    """Unpack for the parent process; what is wrong goes to standard error, in one line."""
    archive, target, release, wheels = arguments
    os.umask(0o022)
    try:
        unpack(Path(archive), target, Path(release), Path(wheels))
    except (SlipwayError, OSError, tarfile.TarError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
