"""A new environment takes over the bytecode of modules that it shares with an earlier one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway_release import bytecode
from tests.services import ROOT

SCRIPT = ROOT / "roles/release/files/slipway_release/bytecode.py"
TAG = sys.implementation.cache_tag


def packages_of(environment: Path) -> Path:
    return environment / "lib/python3.99/site-packages"


def write(environment: Path, name: str, text: str) -> Path:
    path = packages_of(environment) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def compiled(environment: Path, name: str) -> Path:
    path = packages_of(environment) / name
    return path.parent / "__pycache__" / f"{path.stem}.{TAG}.pyc"


def run(*environments: Path) -> None:
    subprocess.run(
        [sys.executable, "-I", "-B", SCRIPT, *environments], check=True, capture_output=True
    )


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """An environment that is compiled."""
    environment = tmp_path / "v1/.venv"
    write(
        environment, "same/__init__.py", "where = __import__('sys')._getframe().f_code.co_filename"
    )
    write(environment, "changed.py", "value = 1")
    run(environment)
    return environment


@pytest.fixture
def new(tmp_path: Path, earlier: Path) -> Path:
    """One as uv makes it: a module of the same package is the same file."""
    environment = tmp_path / "v2/.venv"
    shared = packages_of(environment) / "same/__init__.py"
    shared.parent.mkdir(parents=True)
    os.link(packages_of(earlier) / "same/__init__.py", shared)
    write(environment, "changed.py", "value = 2")
    write(environment, "added.py", "value = 3")
    return environment


def test_the_first_environment_is_compiled(earlier: Path) -> None:
    assert compiled(earlier, "same/__init__.py").exists()
    assert compiled(earlier, "changed.py").exists()


def test_a_shared_module_is_not_compiled_again(earlier: Path, new: Path) -> None:
    run(new, earlier)
    for name, shared in (("same/__init__.py", True), ("changed.py", False)):
        ours, theirs = compiled(new, name), compiled(earlier, name)
        assert ours.samefile(theirs) is shared
    assert compiled(new, "added.py").exists()


def test_bytecode_that_was_taken_over_is_used_and_names_the_new_path(
    earlier: Path, new: Path
) -> None:
    run(new, earlier)
    script = f"import sys; sys.path.insert(0, {str(packages_of(new))!r}); import same, changed"
    script += "; print(same.where, changed.value)"
    # -v tells which bytecode was found good.
    result = subprocess.run(
        [sys.executable, "-I", "-B", "-v", "-c", script], check=True, capture_output=True, text=True
    )
    assert result.stdout.split() == [str(packages_of(new) / "same/__init__.py"), "2"]
    assert f"{compiled(new, 'same/__init__.py')} matches" in result.stderr


def test_an_earlier_environment_may_go_meanwhile(new: Path, tmp_path: Path) -> None:
    run(new, tmp_path / "gone/.venv")
    assert compiled(new, "same/__init__.py").exists()


def test_a_module_that_cannot_be_compiled_stops_nothing(earlier: Path, new: Path) -> None:
    write(new, "template.py", "def {{ name }}():")
    run(new, earlier)
    assert not compiled(new, "template.py").exists()
    assert compiled(new, "added.py").exists()


def test_many_modules_are_compiled_as_well(new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode, "_MANY", 2)
    names = [f"many/module{number}.py" for number in range(60)]
    for name in names:
        write(new, name, "value = 1")
    assert bytecode.main([str(new)]) == 0
    assert all(compiled(new, name).exists() for name in names)


def test_a_second_run_leaves_everything_as_it_is(earlier: Path, new: Path) -> None:
    run(new, earlier)
    before = {path: path.stat().st_ino for path in new.rglob("*.pyc")}
    run(new, earlier)
    assert {path: path.stat().st_ino for path in new.rglob("*.pyc")} == before
