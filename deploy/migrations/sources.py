"""What the files of revisions say, read without running them."""

import ast
import dataclasses
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.artifact.errors import ArtifactError
from deploy.artifact.revisions import CONTRACT, EXPAND, folder_of
from deploy.migrations.findings import Finding

ACCEPTS = "lint_accepts"
HIDDEN = "hidden-from-the-plan"

_SETTINGS = ("alembic.ini", "pyproject.toml")
# Behind them the SQL that Alembic prints is another one than what it runs.
_HIDING = {"get_bind", "is_offline_mode", "as_sql"}


@dataclasses.dataclass(frozen=True)
class Source:
    """The file of a revision.

    Attributes:
        path: Where it is in the tree.
        accepts: Rules whose findings are accepted in it, and why.
        findings: What is wrong with the file itself.
    """

    path: str
    accepts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def of_folder(root: Path) -> dict[str, Source]:
    """Return the files of the revisions of a tree, by the identifier of the revision.

    Raises:
        ArtifactError: The settings of Alembic or a file cannot be read.
    """
    files = {name: (root / name).read_bytes() for name in _SETTINGS if (root / name).is_file()}
    folder = folder_of(files)
    for path in sorted((root / folder).glob("*.py")) if folder else ():
        files[path.relative_to(root).as_posix()] = path.read_bytes()
    return of_tree(files)


def of_tree(files: Mapping[str, bytes]) -> dict[str, Source]:
    """Return the same of a tree that is no folder.

    Args:
        files: Contents by their path in the tree.

    Raises:
        ArtifactError: The settings of Alembic or a file cannot be read.
    """
    folder = folder_of(files)
    found: dict[str, Source] = {}
    for path in sorted(files):
        if folder is None or posixpath.dirname(path) != folder or not path.endswith(".py"):
            continue
        try:
            module = ast.parse(files[path], path)
        except (SyntaxError, ValueError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}") from error
        values = dict(_assigned(module))
        revision = values.get("revision")
        if isinstance(revision, ast.Constant) and isinstance(revision.value, str):
            found[revision.value] = _source(path, module, values)
    return found


def _assigned(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for statement in module.body:
        targets: list[ast.expr] = []
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        elif isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        yield from ((one.id, value) for one in targets if isinstance(one, ast.Name))


def _source(path: str, module: ast.Module, values: Mapping[str, ast.expr]) -> Source:
    accepts: dict[str, str] = {}
    findings = [*_phase(values), *_hiding(module)]
    if (said := values.get(ACCEPTS)) is not None:
        read = _reasons(said)
        if read is None:
            findings.append(
                Finding(
                    "acceptance-without-reason",
                    f"{ACCEPTS} is not written out as rules with a reason for each.",
                    f'Write {ACCEPTS} = {{"the-rule": "why it is safe here"}}.',
                    said.lineno,
                )
            )
        accepts = read or {}
    return Source(path, accepts, tuple(findings))


def _reasons(said: ast.expr) -> dict[str, str] | None:
    try:
        value = ast.literal_eval(said)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    for pair in value.items():
        if not all(isinstance(one, str) and one.strip() for one in pair):
            return None
    return value


def _phase(values: Mapping[str, ast.expr]) -> Iterator[Finding]:
    phase = values.get("phase")
    if not isinstance(phase, ast.Constant) or phase.value not in {EXPAND, CONTRACT}:
        yield Finding(
            "phase-missing",
            "It does not say its phase.",
            f'Write phase = "{EXPAND}" when the release before it can work with what it makes, '
            f'otherwise phase = "{CONTRACT}".',
            1 if phase is None else phase.lineno,
        )


def _hiding(module: ast.Module) -> Iterator[Finding]:
    for statement in module.body:
        # Nobody plans a downgrade.
        if isinstance(statement, ast.FunctionDef) and statement.name == "downgrade":
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute) and node.attr in _HIDING:
                yield Finding(
                    HIDDEN,
                    f"What it does with {node.attr} is not in the SQL that is shown and judged.",
                    "Write it as SQL by op.execute; for batches, as a DO block in an autocommit "
                    "block.",
                    node.lineno,
                )
