"""What this host knows of its releases: one small file each, and one for the work in hand."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from slipway_release import durable, schema
from slipway_release.errors import RefusedError
from slipway_release.settings import Settings
from slipway_release.version import is_version, precedence

Stage = Literal["incomplete", "installed"]
Verdict = Literal["", "good", "failed", "withdrawn"]


@dataclasses.dataclass(frozen=True)
class Release:
    """A release on this host.

    Attributes:
        version: Its version.
        stage: Whether its folder is complete; an incomplete one is never started.
        verdict: '' before its first proof, `good` after it, `failed`, or `withdrawn` when a
            rollback left it: then it is a target only when it is asked for by name.
        digest: Checksum of all that was installed.
        commit: Its commit in git.
        activated: Unix time at which it was last proved behind Nginx; 0 for never.
        reason: Why it failed.
    """

    version: str
    stage: Stage
    verdict: Verdict
    digest: str
    commit: str
    activated: float = 0.0
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation from its first change until its end; a crash leaves it behind.

    Attributes:
        id: Names the log of the operation.
        verb: `release`, `rollback` or `contract`.
        version: Where it leads; what is live, for a contraction.
        previous: What served before; None when nothing did.
        who: The person who asked for it.
        started: Unix time of the command.
        accepted: Whether the new release was proved: from then on nothing returns.
        restore_point: Where the database was saved before; '' for nowhere.
        revisions: What a contraction contracts.
    """

    id: str
    verb: str
    version: str
    previous: str | None
    who: str
    started: float
    accepted: bool = False
    restore_point: str = ""
    revisions: tuple[str, ...] = ()


class Store:
    """The states of one service's releases. The holder of the lock is its only writer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.state / "releases"
        self._operation = settings.state / "operation.json"

    def current(self) -> str | None:
        """Return the version that is live, None when there is none."""
        try:
            target = str(self._settings.current.readlink())
        except FileNotFoundError:
            return None
        name = target.removeprefix("releases/")
        if target == name or not is_version(name):
            raise RefusedError(
                f"{self._settings.current} leads to {target!r}, which is no release: something "
                f"else wrote it. Remove it, or make it lead to releases/<version>."
            )
        return name

    def get(self, version: str) -> Release | None:
        """Return what is known of a release."""
        values = _read(self._folder / f"{version}.json")
        return Release(**values) if values else None

    def all(self) -> list[Release]:
        """Return every release that is known, the oldest version first."""
        versions = [path.stem for path in self._folder.glob("v*.json") if is_version(path.stem)]
        found = (self.get(version) for version in sorted(versions, key=precedence))
        return [release for release in found if release]

    def save(self, release: Release) -> None:
        """Write what is known of a release."""
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(release), indent=1)
        durable.write(self._folder / f"{release.version}.json", text + "\n")

    def forget(self, version: str) -> None:
        """Remove what is known of a release whose folder is gone."""
        durable.remove(self._folder / f"{version}.json")

    def operation(self) -> Operation | None:
        """Return the operation under way, or the one that a crash left behind."""
        values = _read(self._operation)
        if not values:
            return None
        return Operation(**{**values, "revisions": tuple(values.get("revisions", ()))})

    def save_operation(self, operation: Operation) -> None:
        """Note the operation under way."""
        durable.write(self._operation, json.dumps(dataclasses.asdict(operation)) + "\n")

    def end_operation(self) -> None:
        """Note that nothing is under way."""
        durable.remove(self._operation)

    def last_good(self) -> str | None:
        """Return where a rollback without a version leads: the good release before this one."""
        current = self.current()
        good = [r for r in self.all() if self.is_candidate(r) and r.version != current]
        return max(good, key=lambda release: release.activated).version if good else None

    def is_candidate(self, release: Release) -> bool:
        """Tell whether a release may take traffic again without being asked for by name."""
        folder = self._settings.release(release.version)
        proved = release.stage == "installed" and release.verdict == "good" and folder.is_dir()
        return proved and not schema.lacks(self._settings, release.version)


def _read(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(FileNotFoundError):
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return values
    return None
