"""Which package needs which, as far as a lock tells it."""

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from deploy.artifact.errors import ArtifactError

_Package = Mapping[str, Any]
# A package of the tree itself, in the words of uv: it is released as code and not as a wheel.
_LOCAL = ("virtual", "editable", "directory")


@dataclasses.dataclass(frozen=True, order=True)
class Name:
    """One version of one package, both in their normal form."""

    name: str
    version: str

    @classmethod
    def of(cls, name: str, version: str) -> "Name":
        """Make one of what a lock says.

        Raises:
            ArtifactError: The version is none.
        """
        try:
            return cls(canonicalize_name(name), str(Version(version)))
        except InvalidVersion as error:
            raise ArtifactError(f"The lock gives {name} the version {version!r}.") from error


@dataclasses.dataclass(frozen=True)
class Graph:
    """What needs what.

    Attributes:
        direct: What the service itself asks for.
        needs: What each package asks for.
    """

    direct: frozenset[Name]
    needs: Mapping[Name, frozenset[Name]]


def read(lock: bytes) -> Graph:
    """Read the graph of a `uv.lock`, without the groups of developers.

    Raises:
        ArtifactError: It is no such file.
    """
    try:
        packages: list[_Package] = tomllib.loads(lock.decode()).get("package", [])
        return _walk(packages)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArtifactError(f"uv.lock cannot be read ({error!r}): run `uv lock`.") from error


def _walk(packages: list[_Package]) -> Graph:
    local = [package for package in packages if _is_local(package)]
    waiting = [(package, "") for package in local]
    seen: set[tuple[str, str, str]] = set()
    direct: set[Name] = set()
    needs: dict[Name, set[Name]] = {}
    while waiting:
        package, extra = waiting.pop()
        key = (package["name"], package.get("version", ""), extra)
        if key in seen:
            continue
        seen.add(key)
        for other, extras in _asked(packages, package, extra):
            waiting += [(other, one) for one in ("", *extras)]
            if not _is_local(other):
                found = direct if _is_local(package) else needs.setdefault(_name(package), set())
                found.add(_name(other))
    return Graph(frozenset(direct), {name: frozenset(found) for name, found in needs.items()})


def _asked(
    packages: list[_Package], package: _Package, extra: str
) -> Iterator[tuple[_Package, list[str]]]:
    """Tell what one package, or one extra of it, asks for, with the extras of that."""
    if extra:
        asked = package.get("optional-dependencies", {}).get(extra, [])
    else:
        asked = package.get("dependencies", [])
    for one in asked:
        for other in packages:
            # A lock names the version only where it holds more than one of them.
            if other["name"] == one["name"] and one.get("version") in {None, other.get("version")}:
                yield other, one.get("extra", [])


def _name(package: _Package) -> Name:
    return Name.of(package["name"], package["version"])


def _is_local(package: _Package) -> bool:
    return any(kind in package.get("source", {}) for kind in _LOCAL)
