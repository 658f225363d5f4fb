"""The release before works with this schema: its own tests run against it.

While a release switches, and after a rollback, the release before serves on the new schema. The
previous release is the newest tag before this commit. Before the first tag it is the commit before
the newest revision was added, or that commit itself when the service came with it.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from app.schema import MIGRATIONS
from deploy.plan.versions import precedence
from tests.services import ROOT

# Those that read and write the database.
TESTS = ["test_items.py", "test_users.py", "test_auth.py", "test_health.py"]
NEEDED = ["migrations/versions", "tests/services.py", *(f"tests/app/{name}" for name in TESTS)]
# What measures times says nothing of a schema.
TIMED = "not takes_as_long and not burst"
UNSAFE = '''"""What a release before cannot work with."""

from alembic import op

revision = "9999"
down_revision = "{before}"
phase = "expand"


def upgrade() -> None:
    op.drop_column("items", "description")
'''


def git(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", *arguments], check=False, capture_output=True, cwd=ROOT)


def lines(*arguments: str) -> list[str]:
    """Return what git prints; nothing when it fails."""
    answer = git(*arguments)
    return [] if answer.returncode else answer.stdout.decode().split()


def released() -> str | None:
    """Return the newest tag before this commit."""
    versions = {}
    for name in set(lines("tag", "--merged", "HEAD")) - set(lines("tag", "--points-at", "HEAD")):
        try:
            versions[precedence(name)] = name
        except ValueError:
            continue
    return versions[max(versions)] if versions else None


def is_whole(commit: str) -> bool:
    """Tell whether a commit has the service with its tests."""
    return all(git("cat-file", "-e", f"{commit}:{path}").returncode == 0 for path in NEEDED)


def previous() -> str:
    """Return the previous release, or skip the test and say what is missing."""
    if not lines("rev-parse", "HEAD"):
        reason = git("rev-parse", "HEAD").stderr.decode().strip().splitlines()[-1:]
        pytest.skip(f"the previous release is not known without the git history: {reason}")
    if found := released():
        return found
    if lines("rev-parse", "--is-shallow-repository") == ["true"]:
        pytest.skip("this clone is shallow and has no tag: git fetch --unshallow --tags")
    added = lines("log", "--diff-filter=A", "--format=%H", "-1", "--", "migrations/versions")
    for commit in (f"{added[0]}^", added[0]) if added else ():
        if is_whole(commit):
            return commit
    pytest.skip("no commit before the newest revision has the service with its tests")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the previous release."""
    name = previous()
    folder = tmp_path_factory.mktemp("previous")
    answer = git("archive", "--format=tar", name)
    assert answer.returncode == 0, answer.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(answer.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def run(
    old: Path, new: Path, log: Path, tests: list[str], *options: str
) -> "subprocess.CompletedProcess[str]":
    """Run tests of an old tree against the schema of a new one."""
    arguments = [*options, "-k", TIMED, *(f"tests/app/{name}" for name in tests)]
    plugin = ("-p", "newer_schema", "-p", "no:cacheprovider")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=old,
        timeout=120,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{old}{os.pathsep}{Path(__file__).parent}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "NEWER_TREE": str(new),
            "NEWER_LOG": str(log),
        },
    )


def test_the_previous_release_works_with_this_schema(old: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = run(old, ROOT, log, TESTS)
    assert log.is_file(), f"the schema of this release was not made:\n{result.stdout}"
    assert result.returncode == 0, log.read_text() + result.stdout


def test_a_schema_that_it_cannot_work_with_is_noticed(old: Path, tmp_path: Path) -> None:
    shutil.copytree(MIGRATIONS, tmp_path / "migrations", ignore=lambda *_: ["__pycache__"])
    (tmp_path / "app").symlink_to(ROOT / "app")
    versions = tmp_path / "migrations/versions"
    newest = max(versions.glob("*.py")).name.partition("_")[0]
    (versions / "9999_unsafe.py").write_text(UNSAFE.format(before=newest))
    log = tmp_path / "log"
    result = run(old, tmp_path, log, ["test_items.py"], "-x")
    assert re.search(r"^Done: (.*, )?9999\.$", log.read_text(), re.MULTILINE)
    assert result.returncode == 1, result.stdout
    assert "description" in result.stdout
