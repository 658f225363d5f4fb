"""The rules of the house that no linter of its own holds."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import ROOT

APP = ROOT / "app"
QUERY_FUNCTIONS = {"select", "insert", "update", "delete", "text"}


def test_the_layers_are_kept() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run(
        [program, "--no-cache"], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stdout


def queries_in(path: Path) -> list[str]:
    """Name what a module takes from SQLAlchemy to query with, and its calls of `execute`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sqlalchemy"):
            found += [name.name for name in node.names if name.name in QUERY_FUNCTIONS]
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"execute", "scalar", "scalars", "exec_driver_sql"}
        ):
            found.append(f"{node.func.attr} in line {node.lineno}")
    return found


@pytest.mark.parametrize(
    "path", sorted(APP.rglob("*.py")), ids=lambda path: str(path.relative_to(APP))
)
def test_queries_are_in_repositories(path: Path) -> None:
    found = queries_in(path)
    if path.name == "repository.py":
        assert found
    elif path.name == "models.py":
        # The text of an index, which no query is made of.
        assert set(found) <= {"text"}
    elif path == APP / "db.py":
        # The pragmas of a new SQLite connection.
        assert all(name.startswith("execute in line") for name in found)
    else:
        assert found == []


@pytest.mark.parametrize(
    "path", sorted(APP.rglob("*.py")), ids=lambda path: str(path.relative_to(APP))
)
def test_modules_and_functions_stay_short(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 300
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 40, f"{node.name} is long"


def test_importing_the_service_starts_and_connects_nothing() -> None:
    script = (
        "import socket, threading\n"
        "def refuse(*_, **__): raise AssertionError('connected')\n"
        "socket.socket.connect = refuse\n"
        "import app.main\n"
        "assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
