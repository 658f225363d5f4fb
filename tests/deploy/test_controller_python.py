"""The set-up finds an interpreter that really runs, whatever else is on the PATH."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

FINDER = Path(__file__).parents[2] / "deploy/controller/find-python.sh"
REAL = Path(sys.executable).resolve()
# A Python that says it is of another version answers the finder's question for that version.
PRETENDER = """#!/bin/sh
shift; question=$1; shift
exec {real} -c "import sys; sys.version_info = ({version}, '{level}', 0)
$question" "$@"
"""


def command(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def pretender(path: Path, version: str, level: str = "final") -> Path:
    parts = version.replace(".", ", ")
    return command(path, PRETENDER.format(real=REAL, version=parts, level=level))


def find(path: str, *arguments: str, pyenv: str = "/nonexistent") -> tuple[int, str]:
    # The finder itself needs these few programs.
    tools = Path(path.split(":", maxsplit=1)[0]) / "tools"
    tools.mkdir(parents=True)
    for name in ("sort", "printf"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    answer = subprocess.run(
        ["/bin/sh", str(FINDER), *arguments],
        env={"PATH": f"{path}:{tools}", "PYENV_ROOT": pyenv, "HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.stderr == ""
    return answer.returncode, answer.stdout.strip()


@pytest.fixture
def shims(tmp_path: Path) -> Path:
    """A folder with shims as pyenv makes them: the names are there, and each fails."""
    for name in ("python3.14", "python3.13", "python3.12", "python3"):
        command(tmp_path / "shims" / name, "#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    return tmp_path / "shims"


def test_a_failing_shim_and_an_old_python_are_passed_over(tmp_path: Path, shims: Path) -> None:
    pretender(tmp_path / "old/python3.12", "3.11.7")
    pretender(tmp_path / "old/python3", "3.11.7")
    pretender(tmp_path / "good/python3", "3.13.1")

    code, found = find(f"{shims}:{tmp_path / 'old'}:{tmp_path / 'good'}", "3.12")

    assert (code, found) == (0, str(REAL))


@pytest.mark.parametrize(
    ("version", "level"),
    [
        pytest.param("3.11.9", "final", id="too-old"),
        pytest.param("3.15.0", "final", id="without-wheels"),
        pytest.param("3.14.0", "candidate", id="preview"),
    ],
)
def test_nothing_is_found_where_no_python_will_do(
    tmp_path: Path, shims: Path, version: str, level: str
) -> None:
    pretender(tmp_path / "only/python3", version, level)

    assert find(f"{shims}:{tmp_path / 'only'}", "3.12") == (1, "")


def test_a_python_that_pyenv_installed_is_found_behind_its_shims(
    tmp_path: Path, shims: Path
) -> None:
    pretender(tmp_path / "pyenv/versions/3.9.18/bin/python3", "3.9.18")
    pretender(tmp_path / "pyenv/versions/3.13.0/bin/python3", "3.13.0")

    assert find(str(shims), "3.12", pyenv=str(tmp_path / "pyenv")) == (0, str(REAL))


def test_the_interpreter_of_a_virtual_environment_is_its_base(tmp_path: Path, shims: Path) -> None:
    subprocess.run([REAL, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)

    code, found = find(str(shims), "3.12", str(tmp_path / "venv/bin/python"))

    assert (code, found) == (0, str(REAL))
    assert os.access(found, os.X_OK)
