"""One operation on its way: what was asked for, and what the steps found out so far."""

from __future__ import annotations

import dataclasses
import time

from slipway_release.manifest import Manifest
from slipway_release.progress import Progress
from slipway_release.settings import Settings
from slipway_release.state import Operation, Release, Store


@dataclasses.dataclass(frozen=True)
class Order:
    """What a person asked for.

    Attributes:
        verb: `release`, `rollback` or `contract`.
        version: Where to; None for the last good release, which a rollback may leave open, and for
            the live one, which is what is contracted.
        who: The person.
        started: Unix time of the command.
        operation: Identity of the operation.
        sha256: Checksum of the artifact; None but for a release.
        allow_downgrade: Whether an older version than the live one may be released.
    """

    verb: str
    version: str | None
    who: str
    started: float
    operation: str
    sha256: str | None = None
    allow_downgrade: bool = False


@dataclasses.dataclass
class Work:
    """What the steps of one operation share.

    Attributes:
        settings: The service's settings.
        store: What this host knows of its releases.
        progress: Where the story is told.
        order: What was asked for.
        operation: The operation as it is on the disk, or will be at the first change.
        begun: Whether anything may have been changed.
        release: The release that the operation leads to.
        manifest: Of its artifact; None but for a release.
        kind: The kind of this host, such as `3.11-x86_64`.
        since: Unix time from which log lines belong to this operation.
        switched: Unix time of the switch.
        steps: Seconds of each step.
    """

    settings: Settings
    store: Store
    progress: Progress
    order: Order
    operation: Operation
    begun: bool = False
    release: Release | None = None
    manifest: Manifest | None = None
    kind: str = ""
    since: float = dataclasses.field(default_factory=time.time)
    switched: float | None = None
    steps: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def version(self) -> str:
        """The version that the operation leads to."""
        return self.operation.version

    def begin(self) -> None:
        """Note the operation on the disk, before its first change."""
        self.store.save_operation(self.operation)
        self.begun = True

    def note(self, *, restore_point: str) -> None:
        """Note on the disk where the database was saved."""
        self.operation = dataclasses.replace(self.operation, restore_point=restore_point)
        self.store.save_operation(self.operation)

    def accept(self) -> None:
        """Note that the new release is proved: from now on it stays."""
        self.operation = dataclasses.replace(self.operation, accepted=True)
        self.store.save_operation(self.operation)

    def save(self, release: Release) -> None:
        """Note what is known of the release."""
        self.release = release
        self.store.save(release)
