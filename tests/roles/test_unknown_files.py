"""The commands of the runbook that take away files without a record, as one with sudo runs them."""

import os
import subprocess
from pathlib import Path

import pytest

RUNBOOK = Path(__file__).parents[2] / "docs/runbook.md"
FOLDER = "/srv/harbour/data/files"
KNOWN, UNKNOWN = (letter * 32 for letter in "ab")
#: Only what goes by way of sudo may see the folder, which the real one lets nobody list.
SUDO = """#!/bin/sh
[ "$1" = -u ] && shift 2
chmod 700 "$FOLDER"; "$@"; status=$?; chmod 000 "$FOLDER"
exit $status
"""
PSQL = """#!/bin/sh
for query; do :; done
case "$query" in
    *"left(stored_as, 2) || '/' || stored_as FROM files") ;;
    *) exit 3 ;;
esac
[ -z "$ROWS" ] || echo "$ROWS"
exit "$STATUS"
"""


def commands(folder: Path) -> str:
    """Return the commands, for another folder, and for files that are new."""
    text = RUNBOOK.read_text().split("`EVENT=files.unknown`")[1].split("```")[1]
    for said, here in ((FOLDER, str(folder)), ("-cmin +120", "-cmin -120")):
        assert said in text
        text = text.replace(said, here)
    return text


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the operator is, with things that are nobody else's business."""
    made = tmp_path / "home"
    (made / "bb").mkdir(parents=True)
    (made / "bb" / UNKNOWN).touch()
    (made / "unknown").write_text(f"{made}/bb/{UNKNOWN}\n")
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file that is known, one that is not, and one that is no file of ours."""
    made = tmp_path / "files"
    for name in (KNOWN, UNKNOWN, "README"):
        path = made / "published" / name[:2] / name
        path.parent.mkdir(parents=True)
        path.touch()
    return made


def run(home: Path, folder: Path, status: int = 0) -> set[str]:
    """Run them line by line, as a person does; return the names of what is left."""
    programs = home.parent / "bin"
    programs.mkdir()
    for name, text in (("sudo", SUDO), ("psql", PSQL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FOLDER": str(folder),
        "ROWS": f"{folder}/published/{KNOWN[:2]}/{KNOWN}",
        "STATUS": str(status),
    }
    folder.chmod(0)
    try:
        subprocess.run(["sh", "-c", commands(folder)], cwd=home, env=environment, check=False)
    finally:
        folder.chmod(0o700)
    assert (home / "bb" / UNKNOWN).exists()
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_what_has_no_record_is_taken_away_and_nothing_else(home: Path, folder: Path) -> None:
    assert run(home, folder) == {KNOWN, "README"}


def test_without_an_answer_of_the_database_nothing_is(home: Path, folder: Path) -> None:
    assert run(home, folder, status=1) == {KNOWN, UNKNOWN, "README"}
