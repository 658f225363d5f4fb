"""An artifact that was built before: whether it is the one that is asked for.

A pipeline builds once and hands the same bytes to each environment. What it hands over is judged
here before a host hears of it: the bytes by their checksum, the version by the manifest, and the
tag by its signature.
"""

import dataclasses
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.artifact.build import Artifact, Order, check
from deploy.artifact.bundle import FORMAT
from deploy.artifact.errors import ArtifactError
from deploy.artifact.wheels import checksum

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Taken:
    """An artifact that may be brought to hosts.

    Attributes:
        artifact: The file.
        has_repository: Whether the repository was there to check its tag in.
    """

    artifact: Artifact
    has_repository: bool


def take(order: Order, path: Path, sha256: str) -> Taken:
    """Check that a file is the artifact of what is asked for.

    Args:
        order: The tag, and the name and the targets as far as they are known already.
        path: The file.
        sha256: The checksum that was told when it was built.

    Raises:
        ArtifactError: It is not; the message says why.
    """
    _require_bytes(path, sha256)
    manifest = _manifest(path)
    _require_what_is_asked(order, path, manifest)
    there = _is_there(order.repository)
    if there:
        # What is released is in the file already: uncommitted changes do not matter.
        _, tag = check(dataclasses.replace(order, allow_dirty=True))
        if (manifest["tag"], manifest["commit"]) != (tag.identity, tag.commit):
            raise ArtifactError(
                f"{path} was built of another tag {tag.name} (commit {manifest['commit'][:12]}) "
                f"than {order.repository} has (commit {tag.commit[:12]}): build it again."
            )
    artifact = Artifact(path.absolute(), sha256, order.tag, str(manifest["commit"]))
    return Taken(artifact, has_repository=there)


def _require_bytes(path: Path, sha256: str) -> None:
    if _SHA256.fullmatch(sha256) is None:
        raise ArtifactError(
            f"The checksum of {path} is {sha256 or 'not given'!r}: say the SHA-256 that "
            f"`make artifact` printed, 64 of 0-9a-f, as release_artifact_sha256."
        )
    if not path.is_file():
        raise ArtifactError(
            f"There is no artifact {path}: build it with `make artifact`, or leave "
            f"release_artifact away to build it now."
        )
    if (found := checksum(path)) != sha256:
        raise ArtifactError(
            f"{path} has the SHA-256 {found}, and {sha256} is asked for: it is not the file that "
            f"was built. Take it again from where it was built."
        )


def _manifest(path: Path) -> Mapping[str, Any]:
    """Read the manifest, which is the first file of an artifact."""
    try:
        with tarfile.open(path, mode="r:") as tar:
            first = tar.next()
            stream = tar.extractfile(first) if first and first.name == _MANIFEST else None
            values = json.load(stream) if stream else {}
    except (tarfile.TarError, UnicodeDecodeError, ValueError) as error:
        raise ArtifactError(f"{path} is no artifact ({error}): build it again.") from error
    wanted = {"name", "version", "tag", "commit", "targets"}
    if not isinstance(values, dict) or values.get("format") != FORMAT or not wanted <= {*values}:
        raise ArtifactError(
            f"{path} has no manifest of format {FORMAT}: build it again with this version of the "
            f"kit."
        )
    return values


def _require_what_is_asked(order: Order, path: Path, manifest: Mapping[str, Any]) -> None:
    if manifest["version"] != order.tag:
        raise ArtifactError(
            f"{path} is {manifest['version']}, and {order.tag} is asked for: name the version that "
            f"was built, or build {order.tag}."
        )
    if order.name and manifest["name"] != order.name:
        raise ArtifactError(
            f"{path} is of the service {manifest['name']}, and the hosts run {order.name}: build "
            f"it with `make artifact NAME={order.name}`."
        )
    targets = sorted(map(str, order.targets))
    if missing := [target for target in targets if target not in manifest["targets"]]:
        every = " ".join(sorted({*targets, *manifest["targets"]}))
        raise ArtifactError(
            f"{path} is for {', '.join(sorted(manifest['targets']))}, and there are hosts of the "
            f'kind {", ".join(missing)}: build it with `make artifact TARGETS="{every}"`.'
        )


def _is_there(repository: Path) -> bool:
    """Tell whether a folder is in a git repository or is a bare one.

    git itself says the same of a folder without a repository and of one that it does not trust;
    the latter must not pass for the former.
    """
    folder = repository.absolute()
    return (folder / "objects").is_dir() or any(
        (place / ".git").exists() for place in (folder, *folder.parents)
    )
