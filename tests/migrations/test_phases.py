"""What `python -m migrations` runs, on a history that expands, expands, contracts and expands."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.schema import MIGRATIONS
from tests.services import OWNER, ROOT, PostgreSQL

REVISION = '''"""{summary}"""

import sqlalchemy as sa
from alembic import op

from migrations.indexes import create_index_concurrently

revision = "{id}"
down_revision = {before!r}
branch_labels = None
depends_on = None

phase = "{phase}"


def upgrade() -> None:
    {statement}


def downgrade() -> None:
    pass
'''
HISTORY = [
    ("0001", "expand", 'op.create_table("boats", sa.Column("name", sa.Text))'),
    ("0002", "expand", 'op.add_column("boats", sa.Column("length", sa.Integer))'),
    ("0003", "contract", 'op.drop_column("boats", "name")'),
    ("0004", "expand", 'op.add_column("boats", sa.Column("title", sa.Text))'),
]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Tree:
    """A release with the code of this one and a history of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        migrations = folder / "migrations"
        (migrations / "versions").mkdir(parents=True)
        for path in MIGRATIONS.glob("*.py"):
            (migrations / path.name).write_text(path.read_text())
        (folder / "app").symlink_to(ROOT / "app")

    def add(self, identifier: str, phase: str, statement: str) -> None:
        versions = self.folder / "migrations/versions"
        before = max((path.stem for path in versions.glob("*.py")), default=None)
        text = REVISION.format(
            summary=f"Revision {identifier}.",
            id=identifier,
            before=before,
            phase=phase,
            statement=statement,
        )
        (versions / f"{identifier}.py").write_text(text)

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "APP_ENVIRONMENT": "production",
            "APP_DATABASE_URL": self.url,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def popen(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "migrations", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        with self.popen(*arguments) as process:
            output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess([], process.returncode, output, errors)


@pytest.fixture
def tree(tmp_path: Path, url: str) -> Tree:
    return Tree(tmp_path, url)


@pytest.fixture
def at(postgresql: PostgreSQL, database: str) -> Callable[[], str]:
    """Tells where the database is."""
    return lambda: postgresql.execute("SELECT version_num FROM alembic_version", database).strip()


def test_a_release_expands_and_contracts_on_request_only(
    tree: Tree, at: Callable[[], str], postgresql: PostgreSQL, database: str
) -> None:
    tree.add(*HISTORY[0])
    assert tree.run("expand").returncode == 0
    assert at() == "0001"
    tree.add(*HISTORY[1])
    tree.add(*HISTORY[2])
    expanded = tree.run("expand")
    assert expanded.returncode == 0, expanded.stderr
    assert "upgraded to 0002" in expanded.stdout
    assert at() == "0002"
    again = tree.run("expand")
    assert (again.returncode, again.stdout) == (0, "Nothing is missing.\n")

    tree.add(*HISTORY[3])
    refused = tree.run("expand")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Revision 0004 lies behind 0003, which contracts")
    assert "slipway contract" in refused.stderr
    assert at() == "0002"

    contracted = tree.run("contract")
    assert contracted.returncode == 0, contracted.stderr
    assert contracted.stdout.endswith("Done: 0003.\n")
    assert at() == "0003"
    early = tree.run("contract")
    assert early.returncode == 1
    assert "Revision 0004 expands" in early.stderr
    assert tree.run("expand").returncode == 0
    columns = "SELECT string_agg(column_name, ' ' ORDER BY column_name) FROM "
    columns += "information_schema.columns WHERE table_name = 'boats'"
    assert postgresql.execute(columns, database).strip() == "length title"


def test_an_empty_database_gets_everything(tree: Tree, at: Callable[[], str]) -> None:
    for revision in HISTORY:
        tree.add(*revision)
    result = tree.run("expand")
    assert result.returncode == 0, result.stderr
    assert at() == "0004"
    assert tree.run("contract").stdout == "Nothing is missing.\n"


def test_the_plan_tells_what_is_missing_and_changes_nothing(
    tree: Tree, at: Callable[[], str], postgresql: PostgreSQL, database: str
) -> None:
    tree.add(*HISTORY[0])
    assert tree.run("expand").returncode == 0
    for revision in HISTORY[1:3]:
        tree.add(*revision)
    plan = json.loads(tree.run("plan", "--json").stdout)
    assert (plan["current"], plan["head"]) == ("0001", "0003")
    assert (plan["runs"], plan["waits"]) == (["0002"], ["0003"])
    first, second = plan["pending"]
    assert first["summary"] == "Revision 0002."
    assert "ALTER TABLE boats ADD COLUMN length INTEGER" in first["sql"]
    assert second["phase"] == "contract"
    assert at() == "0001"

    tree.url = "postgresql+asyncpg://nobody@nowhere.invalid/nothing"
    offline = json.loads(tree.run("plan", "--json", "--from", "0001").stdout)
    assert offline == plan
    everything = json.loads(tree.run("plan", "--json", "--from", "base").stdout)
    assert everything["runs"] == ["0001", "0002", "0003"]
    assert "CREATE TABLE boats" in everything["pending"][0]["sql"]
    unknown = tree.run("plan", "--from", "0099")
    assert (unknown.returncode, unknown.stderr) == (1, "There is no revision 0099 here.\n")
    shown = tree.run("plan", "--from", "0001").stdout
    assert "-- 0003 (contract, waits): Revision 0003." in shown


def test_a_revision_that_says_another_phase_is_refused(tree: Tree) -> None:
    tree.add("0001", "shrink", "pass")
    result = tree.run("expand")
    assert result.returncode == 1
    assert "Revision 0001 says phase = 'shrink'" in result.stderr


def test_a_table_that_stays_locked_is_told_with_who_locks_it(
    tree: Tree, at: Callable[[], str], postgresql: PostgreSQL, database: str
) -> None:
    tree.add(*HISTORY[0])
    assert tree.run("expand").returncode == 0
    tree.add(*HISTORY[1])
    # Ten attempts of a second each, and the pauses between them, would take a test too long.
    locks = tree.folder / "migrations/locks.py"
    locks.write_text(locks.read_text().replace("ATTEMPTS = 10", "ATTEMPTS = 2"))
    # Until it is cancelled below, however slowly the processes start.
    hold = "BEGIN; LOCK TABLE boats IN ACCESS SHARE MODE; SELECT pg_sleep(25)"

    def hold_it() -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            postgresql.execute(hold, database)

    holding = threading.Thread(target=hold_it)
    holding.start()
    held = "SELECT 1 FROM pg_locks WHERE relation = 'boats'::regclass AND granted"
    while not postgresql.execute(held, database):
        time.sleep(0.05)
    result = tree.run("expand")
    postgresql.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(25)%' "
        "AND pid <> pg_backend_pid()"
    )
    holding.join()
    assert result.returncode == 1
    assert "A table stayed locked in 2 attempts by process " in result.stderr
    assert "of role" in result.stderr
    assert at() == "0001"
    assert tree.run("expand").returncode == 0
    assert at() == "0002"


def test_a_killed_runner_leaves_no_statement_behind(
    tree: Tree, at: Callable[[], str], postgresql: PostgreSQL, database: str
) -> None:
    tree.add(*HISTORY[0])
    assert tree.run("expand").returncode == 0
    tree.add("0002", "expand", 'op.execute("SELECT pg_sleep(25)")')
    running = (
        "SELECT count(*) FROM pg_stat_activity "
        f"WHERE datname = '{database}' AND query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    )
    with tree.popen("expand") as process:
        deadline = time.monotonic() + 30
        while postgresql.execute(running).strip() != "1":
            assert time.monotonic() < deadline, process.stderr
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    deadline = time.monotonic() + 10
    while postgresql.execute(running).strip() != "0":
        assert time.monotonic() < deadline, "the statement went on without its runner"
        time.sleep(0.1)
    assert at() == "0001"
    tree.folder.joinpath("migrations/versions/0002.py").unlink()
    tree.add(*HISTORY[1])
    assert tree.run("expand").returncode == 0
    assert at() == "0002"


def test_an_index_whose_making_failed_is_made_again(
    tree: Tree, at: Callable[[], str], postgresql: PostgreSQL, database: str
) -> None:
    tree.add(*HISTORY[0])
    assert tree.run("expand").returncode == 0
    postgresql.execute("INSERT INTO boats VALUES ('gig'), ('gig')", database, OWNER)
    unique = 'create_index_concurrently("ux_boats_name", "boats", ["name"], unique=True)'
    tree.add("0002", "expand", unique)
    failed = tree.run("expand")
    assert failed.returncode == 1
    assert "could not create unique index" in failed.stderr
    invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    assert postgresql.execute(invalid, database).strip() == "1"
    assert at() == "0001"

    tree.add("0003", "expand", 'op.add_column("boats", sa.Column("length", sa.Integer))')
    versions = tree.folder / "migrations/versions"
    held_back = (versions / "0002.py").read_text()
    (versions / "0002.py").write_text(held_back.replace(unique, "pass"))
    ignored = tree.run("expand")
    assert ignored.returncode == 1
    assert "The index ux_boats_name is invalid" in ignored.stderr
    assert at() == "0001"

    (versions / "0002.py").write_text(held_back)
    postgresql.execute("DELETE FROM boats", database, OWNER)
    mended = tree.run("expand")
    assert mended.returncode == 0, mended.stderr
    assert postgresql.execute(invalid, database).strip() == "0"
    assert at() == "0003"
