"""The programs that a build runs: git, pip and uv, with the environment of the operator."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.artifact.errors import ArtifactError


def run(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it said, whatever its exit status.

    Raises:
        ArtifactError: There is no such program.
    """
    try:
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, **(variables or {})},
        )
    except FileNotFoundError as error:
        raise ArtifactError(f"There is no program {error.filename}: install it first.") from error


def last_line(answer: subprocess.CompletedProcess[str]) -> str:
    """Return the line in which a program says why it failed."""
    lines = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
    return lines[-1].strip() if lines else f"exit status {answer.returncode}"


def uv() -> Path:
    """Return uv: the one beside this interpreter, or the one of the system.

    Raises:
        ArtifactError: There is none.
    """
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise ArtifactError("There is no uv on this controller: run `make environment`.")
    return Path(found)
