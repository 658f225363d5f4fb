"""The revisions of a tree, and that they go into the manifest of its artifact."""

from pathlib import Path

import pytest

from deploy.artifact.errors import ArtifactError
from deploy.artifact.revisions import of_tree

PROJECT = {"pyproject.toml": b'[tool.alembic]\nscript_location = "%(here)s/migrations"\n'}
ROOT = Path(__file__).parents[2]


def revision(name: str, down: str = "None", more: str = "") -> bytes:
    return f"revision = '{name}'\ndown_revision = {down}\n{more}\n".encode()


def names(files: dict[str, bytes]) -> list[tuple[str, str]]:
    return [(found.id, found.phase) for found in of_tree(files)]


def tree(**files: bytes) -> dict[str, bytes]:
    return {**PROJECT, **{f"migrations/versions/{name}.py": text for name, text in files.items()}}


def test_they_come_in_the_order_of_the_history() -> None:
    files = tree(
        a=revision("zz", "'mm'", "phase: str = 'contract'"),
        b=revision("mm", "'aa'", "phase = 'expand'"),
        c=b"import typing\nrevision: str = 'aa'\ndown_revision: typing.Any = None\n",
        __init__=b"",
        notes=b"import no_such_module\n",
    )
    assert names(files) == [("aa", "expand"), ("mm", "expand"), ("zz", "contract")]


def test_two_branches_that_are_merged_have_one_head() -> None:
    files = tree(
        a=revision("1"),
        b=revision("2", "'1'"),
        c=revision("3", "'1'"),
        d=revision("4", "('2', '3')"),
    )
    assert [name for name, _ in names(files)] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        ({"alembic.ini": b"[alembic]\nscript_location = %(here)s/db\n"}, "db"),
        ({"alembic.ini": b"[alembic]\nscript_location = src/db\nlog = %(x)s\n"}, "src/db"),
        ({"alembic.ini": b"[alembic]\nscript_location = quay.db:moves\n"}, "quay/db/moves"),
        ({"alembic.ini": b"[loggers]\n", **PROJECT}, "migrations"),
    ],
)
def test_the_settings_of_alembic_tell_the_folder(settings: dict[str, bytes], folder: str) -> None:
    files = {**settings, f"{folder}/versions/a.py": revision("1"), "versions/a.py": revision("2")}
    assert names(files) == [("1", "expand")]


@pytest.mark.parametrize("files", [{}, {"pyproject.toml": b"[project]\n"}, PROJECT])
def test_a_tree_without_any_has_none(files: dict[str, bytes]) -> None:
    assert of_tree(files) == ()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            tree(a=revision("1", "None", "phase = 'shrink'")),
            "phase is 'shrink': it must be 'expand'",
        ),
        (tree(a=revision("1", "None", "phase = []")), "phase is"),
        (tree(a=revision("1"), b=revision("2")), r"2 heads \(1, 2\): merge them"),
        (tree(a=revision("2", "'1'")), "builds on revision 1, which no file has"),
        (tree(a=revision("1", "'2'"), b=revision("2", "'1'")), "in a circle"),
        (tree(a=revision("1"), b=revision("1")), "are both revision 1"),
        (tree(a=b"revision = name()\n"), "revision must be written out"),
        (tree(a=b"revision = (\n"), "migrations/versions/a.py cannot be read"),
        (tree(a=revision("1", "7")), "down_revision is 7"),
        ({"alembic.ini": b"[alembic]\nscript_location = ../db\n"}, "outside the tree"),
        ({"alembic.ini": b"script_location = x\n"}, "alembic.ini cannot be read"),
    ],
)
def test_what_makes_no_history_is_refused(files: dict[str, bytes], reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        of_tree(files)


def test_those_of_this_service() -> None:
    paths = [ROOT / "pyproject.toml", *(ROOT / "migrations/versions").glob("*.py")]
    found = of_tree({str(path.relative_to(ROOT)): path.read_bytes() for path in paths})
    assert [one.id for one in found][:2] == ["0001", "0002"]
