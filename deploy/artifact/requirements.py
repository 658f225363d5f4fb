"""What a service depends on: exact versions with checksums, out of its lock."""

import dataclasses
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from deploy.artifact.errors import ArtifactError
from deploy.artifact.programs import last_line, run, uv
from deploy.artifact.target import Target

LOCK = "uv.lock"
REQUIREMENTS = "requirements.txt"
PROJECT = "pyproject.toml"

_HASH = re.compile(r"\s--hash[= ](\S+)")
_COMMENT = re.compile(r"(^|\s)#.*$")


@dataclasses.dataclass(frozen=True)
class Pin:
    """One version of one package.

    Attributes:
        name: In its canonical form.
        version: The only one that is right.
        marker: Where it is needed (PEP 508), '' for everywhere.
        hashes: Checksums of its files, each as `sha256:…`.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    def line(self, hashes: Iterable[str], *, with_marker: bool) -> str:
        """Return it as a line of a requirements file."""
        marker = f" ; {self.marker}" if with_marker and self.marker else ""
        return " ".join(
            [f"{self.name}=={self.version}{marker}", *(f"--hash={value}" for value in hashes)]
        )


def of_tree(files: Mapping[str, bytes]) -> list[Pin]:
    """Return what a tree's lock names.

    Args:
        files: The files of the tree that say it: `uv.lock` and every `pyproject.toml`, or
            `requirements.txt`.

    Raises:
        ArtifactError: There is no lock, or it does not pin everything.
    """
    if LOCK in files:
        return parse(_export_tree(files), LOCK)
    if REQUIREMENTS in files:
        return parse(files[REQUIREMENTS].decode(), REQUIREMENTS)
    raise ArtifactError(
        f"The tag has neither {LOCK} nor a {REQUIREMENTS} with hashes: run `uv lock` (or "
        f"`uv pip compile --generate-hashes`), commit, and tag again."
    )


def tells(path: str) -> bool:
    """Tell whether a file of a tree says what the service depends on, as `of_tree` wants it."""
    return path in {LOCK, REQUIREMENTS} or path.rpartition("/")[2] == PROJECT


def of_uv(kit: Path) -> Pin:
    """Return the uv that hosts install with: the one that this kit's own lock names.

    Raises:
        ArtifactError: The lock is not there or names no uv.
    """
    text = _export(kit, "--only-group=controller")
    for pin in parse(text, LOCK):
        if pin.name == "uv":
            return dataclasses.replace(pin, marker="")
    raise ArtifactError(f"{kit / LOCK} names no uv in the group controller: restore it.")


def parse(text: str, source: str) -> list[Pin]:
    """Read a requirements file.

    Raises:
        ArtifactError: A line is an option, or not one version with its checksums.
    """
    pins = []
    for line in text.replace("\\\n", " ").splitlines():
        line = _COMMENT.sub("", line).strip()  # noqa: PLW2901
        if line:
            pins.append(_pin(line, source))
    return pins


def for_target(pins: Iterable[Pin], target: Target) -> list[Pin]:
    """Return what hosts of one kind may need, in the order of names."""
    chosen = []
    for pin in pins:
        marker = Requirement(pin.line((), with_marker=True)).marker
        if marker is None or target.may_match(marker):
            chosen.append(pin)
    return sorted(chosen, key=lambda pin: (pin.name, pin.version))


def _pin(line: str, source: str) -> Pin:
    hashes = tuple(sorted(set(_HASH.findall(line))))
    text = _HASH.sub("", line).strip()
    if text.startswith("-"):
        raise ArtifactError(
            f"{source} has {text!r}, which is no package of an index: settings belong into pip's "
            f"configuration, code of your own into the tree."
        )
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise ArtifactError(f"{source} has the line {text!r}, which cannot be read.") from error
    specifiers = list(requirement.specifier)
    exact = len(specifiers) == 1 and specifiers[0].operator in {"==", "==="}
    if requirement.url or not exact or "*" in specifiers[0].version:
        raise ArtifactError(
            f"{source} has {text!r}, which is not one version of an index: pin it with ==."
        )
    if not hashes:
        raise ArtifactError(
            f"{source} has no checksum for {requirement.name}: make it with "
            f"`uv pip compile --generate-hashes`."
        )
    name, marker = canonicalize_name(requirement.name), requirement.marker
    return Pin(name, specifiers[0].version, str(marker) if marker else "", hashes)


def _export_tree(files: Mapping[str, bytes]) -> str:
    with tempfile.TemporaryDirectory(prefix="slipway-lock-") as folder:
        for path, contents in files.items():
            place = Path(folder) / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(contents)
        return _export(Path(folder), "--no-dev", "--no-default-groups")


def _export(folder: Path, *options: str) -> str:
    command: list[str | Path] = [
        uv(),
        *("export", "--frozen", "--quiet", "--no-emit-project", *options),
        *("--format=requirements.txt", "--no-header", "--no-annotate", f"--directory={folder}"),
    ]
    answer = run(command)
    if answer.returncode:
        raise ArtifactError(f"{LOCK} cannot be read by uv: {last_line(answer)}")
    return answer.stdout
