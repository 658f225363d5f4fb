"""The first step: refuse what cannot be right before anything changes."""

from __future__ import annotations

import dataclasses

from slipway_release import contract, environment, manifest, schema
from slipway_release.errors import RefusedError
from slipway_release.manifest import Manifest, Revision
from slipway_release.state import Release
from slipway_release.unpack import checksum
from slipway_release.version import precedence
from slipway_release.work import Work


def verify(work: Work) -> str:
    """Check what was asked for against the artifact and what this host knows.

    Raises:
        RefusedError: It cannot be right; the message says why and what to do.
    """
    if work.order.verb == "contract":
        return contract.verify(work)
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
                f"There is no earlier good release on this host to return to{_passed_over(work)}: "
                f"release a version instead."
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
    _require_schema(work, version)
    return release


def _require_schema(
    work: Work, version: str, revisions: tuple[Revision, ...] | None = None
) -> None:
    """Refuse a version whose schema is gone.

    Raises:
        RefusedError: A revision that it does not know was contracted.
    """
    lacking = schema.lacks(work.settings, version, revisions)
    if not lacking:
        return
    able = schema.floor(work.settings, work.store)
    raise RefusedError(
        f"{version} cannot come back: {schema.plural(lacking)} "
        f"{'have' if len(lacking) > 1 else 'has'} been contracted and its code needs the old "
        f"shape. {f'The oldest release that can: {able}.' if able else 'No other can.'}"
    )


def _passed_over(work: Work) -> str:
    """Tell which releases are none because their schema is gone; '' for none."""
    older = [
        release.version
        for release in work.store.all()
        if release.verdict == "good" and schema.lacks(work.settings, release.version)
    ]
    return f" ({', '.join(older)}: contracted since)" if older else ""


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
    _require_schema(work, version, artifact.revisions)
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
