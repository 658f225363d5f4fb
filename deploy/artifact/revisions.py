"""The revisions of a service's schema, read from the files of its tree without running them.

Which of them expand the schema and which contract it decides what a host may run, and where it may
return to. The layout is Alembic's: https://alembic.sqlalchemy.org/en/latest/tutorial.html.
"""

import ast
import configparser
import dataclasses
import posixpath
import tomllib
from collections.abc import Mapping
from typing import Any

from deploy.artifact.errors import ArtifactError

EXPAND, CONTRACT = "expand", "contract"
_FIELDS = {"revision", "down_revision", "phase"}
_HERE = "%(here)s"


@dataclasses.dataclass(frozen=True)
class Revision:
    """A revision.

    Attributes:
        id: Its identifier.
        phase: `expand` when the release before it can work with the schema after it, `contract`
            otherwise.
    """

    id: str
    phase: str


@dataclasses.dataclass(frozen=True)
class _File:
    path: str
    revision: Revision
    parents: tuple[str, ...]


def of_tree(files: Mapping[str, bytes]) -> tuple[Revision, ...]:
    """Return the revisions of a tree, the oldest first; none when it has no folder of them.

    Args:
        files: Contents by their path in the tree.

    Raises:
        ArtifactError: A revision cannot be read, or they make no single history.
    """
    folder = folder_of(files)
    if folder is None:
        return ()
    found: dict[str, _File] = {}
    for path in sorted(files):
        if posixpath.dirname(path) != folder or not path.endswith(".py"):
            continue
        file = _read(path, files[path])
        if file is None:
            continue
        if (other := found.get(file.revision.id)) is not None:
            raise ArtifactError(
                f"{path} and {other.path} are both revision {file.revision.id}: give one another."
            )
        found[file.revision.id] = file
    return _in_order(found)


def folder_of(files: Mapping[str, bytes]) -> str | None:
    """Return where the revisions lie, by the settings of Alembic; alembic.ini wins, as there.

    Raises:
        ArtifactError: The settings cannot be read, or name a folder outside of the tree.
    """
    location = ""
    if "alembic.ini" in files:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(files["alembic.ini"].decode())
        except (configparser.Error, UnicodeDecodeError) as error:
            raise ArtifactError(f"alembic.ini cannot be read: {error}") from error
        location = parser.get("alembic", "script_location", fallback="")
    if not location and "pyproject.toml" in files:
        try:
            project = tomllib.loads(files["pyproject.toml"].decode())
        except ValueError as error:
            raise ArtifactError(f"pyproject.toml cannot be read: {error}") from error
        location = str(project.get("tool", {}).get("alembic", {}).get("script_location", ""))
    if not location:
        return None
    place = location.strip().replace("\\", "/").removeprefix(_HERE).lstrip("/")
    if location.startswith("/") or place.split("/")[0] == "..":
        raise ArtifactError(f"script_location is {location!r}, which is outside the tree.")
    if ":" in place:
        package, _, inside = place.partition(":")
        place = f"{package.replace('.', '/')}/{inside}"
    return posixpath.normpath(f"{place}/versions")


def _read(path: str, contents: bytes) -> _File | None:
    """Read one file; one that names no revision is none."""
    try:
        body = ast.parse(contents, path).body
    except (SyntaxError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    values: dict[str, Any] = {}
    for statement in body:
        for name, value in _assigned(statement):
            try:
                values[name] = ast.literal_eval(value)
            except ValueError as error:
                raise ArtifactError(
                    f"{path}: {name} must be written out, as in {name} = '…': a release reads it "
                    f"without running the file."
                ) from error
    if "revision" not in values:
        return None
    identity, phase = values["revision"], values.get("phase", EXPAND)
    if not isinstance(identity, str) or not identity.isprintable() or not identity:
        raise ArtifactError(f"{path}: revision is {identity!r}: it must be a name.")
    if phase not in (EXPAND, CONTRACT):
        raise ArtifactError(
            f"{path}: phase is {phase!r}: it must be '{EXPAND}' when the release before it can "
            f"work with the schema after it, or else '{CONTRACT}'."
        )
    return _File(path, Revision(identity, phase), _parents(path, values.get("down_revision")))


def _assigned(statement: ast.stmt) -> list[tuple[str, ast.expr]]:
    """Return the fields of a revision that a statement sets."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets, value = [statement.target], statement.value
    elif isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    else:
        return []
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return [(name, value) for name in names if name in _FIELDS]


def _parents(path: str, said: object) -> tuple[str, ...]:
    if said is None:
        return ()
    if isinstance(said, str):
        return (said,)
    if isinstance(said, tuple | list) and all(isinstance(one, str) for one in said):
        return tuple(said)
    raise ArtifactError(f"{path}: down_revision is {said!r}: it must name revisions, or be None.")


def _in_order(found: Mapping[str, _File]) -> tuple[Revision, ...]:
    """Order revisions so that each comes after what it builds on."""
    for file in found.values():
        for parent in file.parents:
            if parent not in found:
                raise ArtifactError(
                    f"{file.path} builds on revision {parent}, which no file has: the history is "
                    f"broken there."
                )
    followed = {parent for file in found.values() for parent in file.parents}
    heads = sorted(set(found) - followed)
    if len(heads) > 1:
        raise ArtifactError(
            f"The revisions have {len(heads)} heads ({', '.join(heads)}): merge them, so that a "
            f"release knows which schema it leads to."
        )
    ordered: list[Revision] = []
    placed: set[str] = set()
    while len(placed) < len(found):
        ready = [
            file
            for name, file in sorted(found.items())
            if name not in placed and placed.issuperset(file.parents)
        ]
        if not ready:
            circle = ", ".join(sorted(set(found) - placed))
            raise ArtifactError(f"The revisions {circle} build on each other in a circle.")
        ordered += [file.revision for file in ready]
        placed.update(file.revision.id for file in ready)
    return tuple(ordered)
