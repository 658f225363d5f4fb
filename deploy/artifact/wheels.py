"""The wheels of a release: fetched once by pip, kept by checksum, and never asked for again.

pip is run as the operator set it up: its index, mirrors and certificate authorities hold here.
"""

import dataclasses
import hashlib
import json
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from deploy.artifact.errors import ArtifactError
from deploy.artifact.programs import last_line, run
from deploy.artifact.requirements import Pin
from deploy.artifact.target import Target

_ABSENT = re.compile(r"No matching distribution found for (\S+)")
# An index without a package answers 404; anything else says nothing of the package.
_DISCONNECTED = re.compile(r"Could not fetch URL (?!.*\b404\b).*")


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A wheel on the controller."""

    path: Path
    sha256: str

    @property
    def name(self) -> str:
        """Its file name."""
        return self.path.name

    def installed(self) -> tuple[int, int]:
        """Return the bytes that it takes once installed, and its number of files.

        Bytecode is about as large as its source.
        """
        with zipfile.ZipFile(self.path) as archive:
            members = archive.infolist()
        source = sum(member.file_size for member in members if member.filename.endswith(".py"))
        return sum(member.file_size for member in members) + source, len(members)


class Cache:
    """Wheels by checksum, and which of them answers which requirement."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = folder / "index"
        self._index.mkdir(parents=True, exist_ok=True)

    def get(self, pins: Sequence[Pin], target: Target) -> dict[Pin, Wheel]:
        """Return the wheel of every pin for one target, fetching those that are not there.

        Raises:
            ArtifactError: A package has no wheel for the target, or cannot be fetched.
        """
        found = {pin: wheel for pin in pins if (wheel := self._known(pin, target))}
        missing = [pin for pin in pins if pin not in found]
        if missing:
            names = ", ".join(f"{pin.name} {pin.version}" for pin in missing)
            sys.stderr.write(f"Fetching for {target}: {names}\n")
        for batch in _batches(missing):
            found |= self._fetch(batch, target)
        return found

    def _known(self, pin: Pin, target: Target) -> Wheel | None:
        try:
            entry = json.loads(self._entry(pin, target).read_text(encoding="utf-8"))
            wheel = Wheel(self._folder / entry["sha256"] / entry["name"], entry["sha256"])
            intact = checksum(wheel.path) == wheel.sha256
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return wheel if intact and f"sha256:{wheel.sha256}" in pin.hashes else None

    def _entry(self, pin: Pin, target: Target) -> Path:
        question = [str(target), target.platforms(), pin.name, pin.version, pin.hashes]
        return self._index / f"{hashlib.sha256(json.dumps(question).encode()).hexdigest()}.json"

    def _fetch(self, pins: Sequence[Pin], target: Target) -> dict[Pin, Wheel]:
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=self._folder) as name:
            folder = Path(name)
            _download(pins, target, folder)
            files = {_identity(path): path for path in folder.glob("*.whl")}
            wheels = {}
            for pin in pins:
                path = files.get((pin.name, str(Version(pin.version))))
                if path is None:
                    raise ArtifactError(f"pip fetched no wheel of {pin.name} {pin.version}.")
                wheels[pin] = self._keep(path, pin, target)
            return wheels

    def _keep(self, path: Path, pin: Pin, target: Target) -> Wheel:
        sha256 = checksum(path)
        if f"sha256:{sha256}" not in pin.hashes:
            raise ArtifactError(f"{path.name} has a checksum that its lock does not name.")
        kept = self._folder / sha256 / path.name
        kept.parent.mkdir(exist_ok=True)
        # Renamed within one file system: another build sees the whole wheel or none.
        path.replace(kept)
        entry = self._entry(pin, target)
        temporary = entry.with_name(f"{entry.name}.{os.getpid()}")
        temporary.write_text(json.dumps({"name": path.name, "sha256": sha256}), encoding="utf-8")
        temporary.replace(entry)
        return Wheel(kept, sha256)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _identity(path: Path) -> tuple[str, str]:
    name, version, _, _ = parse_wheel_filename(path.name)
    return canonicalize_name(name), str(version)


def _batches(pins: Iterable[Pin]) -> list[list[Pin]]:
    """Part pins so that no package is in a batch twice: pip takes one version of each."""
    batches: list[list[Pin]] = []
    for pin in pins:
        for batch in batches:
            if all(other.name != pin.name for other in batch):
                batch.append(pin)
                break
        else:
            batches.append([pin])
    return batches


def _download(pins: Sequence[Pin], target: Target, folder: Path) -> None:
    # pip judges markers by the controller's own Python, so it gets none.
    lines = [pin.line(pin.hashes, with_marker=False) for pin in pins]
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command: list[str | Path] = [
        *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"),
        # Only then does it tell a missing package from an index that does not answer.
        "-vv",
        *("--progress-bar=off", "--no-deps", "--require-hashes"),
        *("--only-binary=:all:", "--implementation=cp", f"--abi=cp3{target.minor}"),
        *(f"--python-version=3.{target.minor}", f"--dest={folder}"),
        *(f"--platform={platform}" for platform in target.platforms()),
        f"--requirement={requirements}",
    ]
    answer = run(command)
    if not answer.returncode:
        return
    story = answer.stdout + answer.stderr
    absent, disconnected = _ABSENT.search(story), _DISCONNECTED.search(story)
    if absent and not disconnected:
        raise ArtifactError(
            f"{absent[1].replace('==', ' ')} has no wheel for {target}: choose a version that "
            f"has one, or build it and put it where pip looks (PIP_FIND_LINKS)."
        )
    errors = [line for line in answer.stderr.splitlines() if "ERROR" in line]
    reason = disconnected[0] if disconnected else next(iter(errors), last_line(answer))
    raise ArtifactError(f"pip cannot fetch the wheels: {reason.strip()}")
