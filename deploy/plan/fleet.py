"""The hosts that a release is for: what each of them said, and in which order they come."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from deploy.artifact.errors import ArtifactError

_DEFAULT_BATCHES: tuple[int | str, ...] = (1, "50%")


@dataclasses.dataclass(frozen=True)
class Host:
    """A host that answered.

    Attributes:
        name: In the inventory.
        current: The version that is live there; None for nothing.
        target: Its kind, such as `3.11-x86_64`; '' when it is not known.
        uv: The version that installed what is live; '' when it is not known.
        contracted: The contract revisions that were run there.
        restore_point: Whether the database is saved before its schema changes; None when it is
            not known.
    """

    name: str
    current: str | None
    target: str = ""
    uv: str = ""
    contracted: tuple[str, ...] = ()
    restore_point: bool | None = None


@dataclasses.dataclass(frozen=True)
class Fleet:
    """All hosts of a service.

    Attributes:
        hosts: Those that answered, in the order of the inventory.
        away: Names of those that did not.
        batches: How many at once, as Ansible's `serial` has it: numbers, or shares like `50%`.
    """

    hosts: tuple[Host, ...]
    away: tuple[str, ...] = ()
    batches: tuple[int | str, ...] = _DEFAULT_BATCHES

    def order(self) -> list[list[str]]:
        """Return the names of the hosts in batches, the first one first."""
        names = [host.name for host in self.hosts]
        batches: list[list[str]] = []
        number = 0
        while names:
            size = _size(self.batches[min(number, len(self.batches) - 1)], len(self.hosts))
            size = size if size > 0 else len(names)
            batches.append(names[:size])
            names = names[size:]
            number += 1
        return batches

    def contracted(self) -> frozenset[str]:
        """Return the contract revisions that were run: the hosts share one database."""
        return frozenset(one for host in self.hosts for one in host.contracted)


def parse(text: str) -> Fleet:
    """Read a fleet from JSON.

    Raises:
        ArtifactError: It is none; the message says why.
    """
    try:
        values: dict[str, Any] = json.loads(text)
        batches = values.get("batches") or _DEFAULT_BATCHES
        fleet = Fleet(
            hosts=tuple(_host(name, facts) for name, facts in values["hosts"].items()),
            away=tuple(str(name) for name in values.get("away", ())),
            batches=tuple(batches) if isinstance(batches, list | tuple) else (batches,),
        )
        fleet.order()
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"The fleet cannot be read ({error!r}): give JSON with hosts, each by its name "
            f"with its current version, and if need be with away and batches."
        ) from error
    return fleet


def _host(name: str, values: dict[str, Any]) -> Host:
    point = values.get("restore_point")
    return Host(
        name=name,
        current=values["current"] or None,
        target=str(values.get("target", "")),
        uv=str(values.get("uv", "")),
        contracted=tuple(str(one) for one in values.get("contracted", ())),
        restore_point=None if point is None else bool(point),
    )


def by_version(hosts: Sequence[Host], version: str) -> dict[str | None, list[Host]]:
    """Group hosts by what is live there; those that have the version already are left out."""
    groups: dict[str | None, list[Host]] = {}
    for host in hosts:
        if host.current != version:
            groups.setdefault(host.current, []).append(host)
    return groups


def _size(batch: int | str, hosts: int) -> int:
    """Return the size of a batch; a share is of all hosts, rounded down, and one at least."""
    if isinstance(batch, str) and batch.endswith("%"):
        return int(float(batch[:-1]) / 100 * hosts) or 1
    return int(batch)
