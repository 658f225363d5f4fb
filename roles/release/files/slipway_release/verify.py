"""The first step: refuse what cannot be right before anything changes."""

from __future__ import annotations

import dataclasses

from slipway_release import environment, manifest
from slipway_release.errors import RefusedError
from slipway_release.manifest import Manifest
from slipway_release.state import Release
from slipway_release.unpack import checksum
from slipway_release.version import precedence
from slipway_release.work import Work


def verify(work: Work) -> str:
    """Check what was asked for against the artifact and what this host knows.

    Raises:
        RefusedError: It cannot be right; the message says why and what to do.
    """
    previous = work.store.current()
    if work.order.verb == "rollback":
        work.release = _rollback_target(work, previous)
        outcome = f"{work.release.version} is installed, commit {work.release.commit[:12]}"
    else:
        outcome = _release(work, previous)
    if work.release is None:  # pragma: no cover
        raise RefusedError("There is nothing to do.")
    work.operation = dataclasses.replace(
        work.operation, version=work.release.version, previous=previous
    )
    return outcome


def _rollback_target(work: Work, previous: str | None) -> Release:
    version = work.order.version
    if version is None:
        version = work.store.last_good()
        if version is None:
            raise RefusedError(
                "There is no earlier good release on this host to return to: release a version "
                "instead."
            )
    precedence(version)
    release = work.store.get(version)
    if version == previous:
        raise RefusedError(f"{version} is already live: nothing to return to.")
    if release is None or release.stage != "installed":
        raise RefusedError(f"{version} is not installed here: `slipway status` lists what is.")
    if release.verdict not in {"good", "withdrawn"}:
        reason = f" ({release.reason})" if release.reason else ""
        raise RefusedError(f"{version} was never good on this host{reason}: choose another.")
    if not work.settings.release(version).is_dir():
        raise RefusedError(f"{work.settings.release(version)} is gone: release {version} again.")
    return release


def _release(work: Work, previous: str | None) -> str:
    version = work.operation.version
    order = precedence(version)
    if version == previous:
        raise RefusedError(f"{version} is already live on this host: nothing to release.")
    if previous and order < precedence(previous) and not work.order.allow_downgrade:
        raise RefusedError(
            f"{version} is older than {previous}, which is live: use `rollback {version}`, or "
            f"--allow-downgrade if it shall be released anyway."
        )
    artifact = _artifact(work)
    kind = environment.target(work.settings)
    if kind not in artifact.targets:
        offered = ", ".join(sorted(artifact.targets)) or "no host at all"
        raise RefusedError(
            f"The artifact of {version} is made for {offered}, this host is {kind}: build it with "
            f"--target {kind}."
        )
    digest = artifact.digest(kind)
    known = work.store.get(version)
    if known and known.digest != digest:
        if known.verdict in {"good", "withdrawn"}:
            raise RefusedError(
                f"{version} was released here before from something else (commit "
                f"{known.commit[:12]}, now {artifact.commit[:12]}): give the change a new version."
            )
        known = None
    work.manifest = artifact
    work.kind = kind
    work.release = known or Release(version, "incomplete", "", digest, artifact.commit)
    return f"commit {artifact.commit[:12]}, for {kind}"


def _artifact(work: Work) -> Manifest:
    settings, version = work.settings, work.operation.version
    path = settings.artifact(version)
    if not path.is_file():
        raise RefusedError(f"There is no artifact {path}: copy it there first.")
    found = checksum(path)
    if found != (work.order.sha256 or "").lower():
        raise RefusedError(
            f"{path} has the checksum {found}, not {work.order.sha256}: copy it again."
        )
    artifact = manifest.read(path)
    if (artifact.name, artifact.version) != (settings.app, version):
        raise RefusedError(
            f"{path} holds {artifact.name} {artifact.version}, not {settings.app} {version}."
        )
    return artifact
