"""What this host knows of the schema: which revisions were run, and how far back code can work.

A contract revision takes away what older code needs. Which release is older code, its manifest
tells: one that lacks the revision was written for the shape before it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from slipway_release import durable, manifest
from slipway_release.errors import RefusedError
from slipway_release.manifest import Revision
from slipway_release.settings import Settings
from slipway_release.version import precedence

if TYPE_CHECKING:
    from slipway_release.state import Store


@dataclasses.dataclass(frozen=True)
class Schema:
    """What was run on the database, as far as this host had a part in it.

    Attributes:
        expanded: Expand revisions that were run.
        contracted: Contract revisions that were run.
        begun: Contract revisions that were begun and not seen to end: perhaps they were run.
        versions: The version that each contract revision was run with.
    """

    expanded: tuple[str, ...] = ()
    contracted: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def gone(self) -> tuple[str, ...]:
        """The contract revisions whose older shape must be taken for gone."""
        return self.contracted + self.begun


def load(settings: Settings) -> Schema:
    """Read what is known of the schema.

    Raises:
        RefusedError: The file was written by something else.
    """
    path = _path(settings)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(values[name]) for name in ("expanded", "contracted", "begun")}
        return Schema(**lists, versions=dict(values["versions"]))
    except FileNotFoundError:
        return Schema()
    except (ValueError, LookupError, TypeError) as error:
        raise RefusedError(
            f"{path} cannot be read ({error!r}): something else wrote it. Without it nobody knows "
            f"which releases can still work with the schema; take it from a backup."
        ) from error


def note_expanded(settings: Settings, revisions: Iterable[Revision]) -> None:
    """Note that a release has migrated: all of its expand revisions before what waits were run."""
    known = load(settings)
    done = []
    for revision in revisions:
        if revision.phase == "contract":
            if revision.id not in known.contracted:
                break
        elif revision.id not in known.expanded:
            done.append(revision.id)
    if done:
        _save(settings, dataclasses.replace(known, expanded=(*known.expanded, *done)))


def note_begun(settings: Settings, version: str, pending: Iterable[str]) -> None:
    """Note, before it is begun, that revisions are contracted: a crash must not hide it."""
    known = load(settings)
    begun = tuple(one for one in pending if one not in known.contracted)
    versions = {**known.versions, **dict.fromkeys(begun, version)}
    added = tuple(one for one in known.begun if one not in begun)
    _save(settings, dataclasses.replace(known, begun=added + begun, versions=versions))


def note_contracted(settings: Settings, pending: Iterable[str]) -> None:
    """Note that revisions were contracted."""
    known, done = load(settings), tuple(pending)
    _save(
        settings,
        dataclasses.replace(
            known,
            contracted=tuple(dict.fromkeys((*known.contracted, *done))),
            begun=tuple(one for one in known.begun if one not in done),
        ),
    )


def revisions_of(settings: Settings, version: str) -> tuple[Revision, ...]:
    """Return the revisions of an installed release; none when its manifest names none."""
    path = settings.release(version) / manifest.NAME
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        return manifest.revisions_of(json.loads(path.read_text(encoding="utf-8")))
    return ()


def unexpanded(settings: Settings, revisions: Iterable[Revision]) -> tuple[str, ...]:
    """Return the expand revisions that no release of this host has run."""
    known = load(settings)
    return tuple(
        one.id for one in revisions if one.phase == "expand" and one.id not in known.expanded
    )


def uncontracted(settings: Settings, revisions: Iterable[Revision]) -> tuple[str, ...]:
    """Return the contract revisions that were not run, or not seen to end."""
    known = load(settings)
    return tuple(
        one.id for one in revisions if one.phase == "contract" and one.id not in known.contracted
    )


def lacks(
    settings: Settings, version: str, revisions: Iterable[Revision] | None = None
) -> tuple[str, ...]:
    """Return the contracted revisions whose older shape a version needs.

    Only a version that is older than the one it was contracted with can: a later one may have
    joined its revisions into one.

    Args:
        settings: The service's settings.
        version: The version.
        revisions: Its revisions; those of the installed release by default.
    """
    known = load(settings)
    if not known.gone:
        return ()
    held = {one.id for one in revisions_of(settings, version) if revisions is None}
    held |= {one.id for one in revisions or ()}
    order = precedence(version)
    return tuple(
        one
        for one in known.gone
        if one not in held and order < precedence(known.versions.get(one, version))
    )


def floor(settings: Settings, store: Store) -> str | None:
    """Return the oldest good release here that can work with the schema; None when none can."""
    able = (
        release.version
        for release in store.all()
        if release.stage == "installed"
        and release.verdict in {"good", "withdrawn"}
        and not lacks(settings, release.version)
    )
    return next(able, None)


def plural(revisions: Iterable[str]) -> str:
    """Name revisions in a sentence."""
    names = list(revisions)
    return f"revision{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _path(settings: Settings) -> Path:
    return settings.state / "schema.json"


def _save(settings: Settings, schema: Schema) -> None:
    durable.write(_path(settings), json.dumps(dataclasses.asdict(schema), indent=1) + "\n")
