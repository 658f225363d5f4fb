"""The revisions on PostgreSQL, run as a release runs them."""

import ast
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.schema import MIGRATIONS, known_revisions
from migrations.models import metadata
from tests.services import OWNER, ROOT, SERVICE, PostgreSQL, alembic

REVISIONS = sorted((MIGRATIONS / "versions").glob("*.py"))
QUEUE = {f"procrastinate_{name}" for name in ("events", "jobs", "periodic_defers", "workers")}


def upgrade(url: str, revision: str = "head") -> None:
    result = alembic(url, "upgrade", revision)
    assert result.returncode == 0, result.stderr


def tables(postgresql: PostgreSQL, database: str) -> set[str]:
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    return set(postgresql.execute(query, database).split())


def locked(postgresql: PostgreSQL, database: str, table: str, then: str) -> threading.Thread:
    """Return when somebody has locked a table, and goes on with something else meanwhile."""
    lock = f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; {then}"
    busy = threading.Thread(target=postgresql.execute, args=(lock, database))
    busy.start()
    while not postgresql.execute(
        "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation IS NOT NULL "
        f"AND database = (SELECT oid FROM pg_database WHERE datname = '{database}')"
    ):
        assert busy.is_alive()
        time.sleep(0.05)
    return busy


def test_up_down_and_up_again(postgresql: PostgreSQL, database: str, url: str) -> None:
    upgrade(url)
    assert tables(postgresql, database) == {"alembic_version", *metadata.tables, *QUEUE}
    assert alembic(url, "downgrade", "base").returncode == 0
    assert tables(postgresql, database) == {"alembic_version"}
    upgrade(url)
    assert tables(postgresql, database) == {"alembic_version", *metadata.tables, *QUEUE}


def test_the_models_and_the_revisions_agree(url: str) -> None:
    upgrade(url)
    result = alembic(url, "check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_they_agree_on_every_constraint_and_index(
    postgresql: PostgreSQL, database: str, url: str
) -> None:
    """Alembic does not compare check constraints, nor the expressions of every index."""
    upgrade(url)
    from_models = postgresql.create_database("from_the_models")
    postgresql.execute("CREATE EXTENSION pg_trgm", from_models)
    script = (
        "import asyncio, sys\n"
        "from sqlalchemy.ext.asyncio import create_async_engine\n"
        "from migrations.models import metadata\n"
        "async def main():\n"
        "    engine = create_async_engine(sys.argv[1])\n"
        "    async with engine.begin() as connection:\n"
        "        await connection.run_sync(metadata.create_all)\n"
        "    await engine.dispose()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, postgresql.url(from_models, OWNER)], check=True, cwd=ROOT
    )
    names = ", ".join(f"'{name}'" for name in metadata.tables)
    query = (
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
        f"WHERE conrelid::regclass::text IN ({names}) AND contype <> 'n' "
        f"UNION SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ({names}) "
        "UNION SELECT table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, "
        "column_default, character_maximum_length, numeric_precision, numeric_scale) "
        f"FROM information_schema.columns WHERE table_name IN ({names}) ORDER BY 1, 2"
    )
    made, wanted = (postgresql.execute(query, name) for name in (database, from_models))
    assert made.splitlines() == wanted.splitlines()


def test_the_serving_role_has_rows_and_nothing_else(
    postgresql: PostgreSQL, database: str, url: str
) -> None:
    upgrade(url)
    add = (
        "INSERT INTO users (username, email, password_hash) VALUES ('a', 'a@example.com', 'x');"
        "UPDATE users SET full_name = 'A'; DELETE FROM users;"
        "SELECT version_num FROM alembic_version"
    )
    assert postgresql.execute(add, database, SERVICE) == known_revisions().required
    for forbidden in ("DROP TABLE items", "ALTER TABLE users ADD COLUMN x int", "TRUNCATE users"):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            postgresql.execute(forbidden, database, SERVICE)
        assert "permission denied" in caught.value.stderr or "must be owner" in caught.value.stderr


def test_two_upgrades_at_once_both_succeed(postgresql: PostgreSQL, database: str, url: str) -> None:
    results: list[subprocess.CompletedProcess[str]] = []
    threads = [
        threading.Thread(target=lambda: results.append(alembic(url, "upgrade", "head")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.returncode for result in results] == [0, 0], [r.stderr for r in results]
    assert "items" in tables(postgresql, database)


def test_a_busy_table_is_waited_for(postgresql: PostgreSQL, database: str, url: str) -> None:
    """The lock is asked for again, so that the queries behind it do not pile up."""
    upgrade(url, "0001")
    busy = locked(postgresql, database, "users", "SELECT pg_sleep(4)")
    result = alembic(url, "upgrade", "head")
    busy.join()
    assert result.returncode == 0, result.stderr
    assert "items" in tables(postgresql, database)


@pytest.mark.parametrize(("prepared", "status"), [("", 0), ("CREATE TABLE items (id int)", 1)])
def test_who_cannot_see_what_is_in_the_way_changes_nothing(
    postgresql: PostgreSQL, prepared: str, status: int
) -> None:
    """With no connection left to look, an upgrade ends as it would have, and says why."""
    database = postgresql.create_database(f"nobody_sees_{status}")
    url = postgresql.url(database, OWNER)
    upgrade(url, "0001")
    postgresql.execute(prepared, database)
    while postgresql.execute(f"SELECT 1 FROM pg_stat_activity WHERE usename = '{OWNER}'"):
        time.sleep(0.05)
    postgresql.execute(f"ALTER ROLE {OWNER} CONNECTION LIMIT 1")
    try:
        until = (
            "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted) LOOP "
            "PERFORM pg_sleep(0.05); END LOOP; END $$; SELECT pg_sleep(0.8)"
        )
        busy = locked(postgresql, database, "alembic_version", until)
        result = alembic(url, "upgrade", "head")
        busy.join()
    finally:
        postgresql.execute(f"ALTER ROLE {OWNER} CONNECTION LIMIT -1")
    assert "too many connections" not in result.stderr
    assert (result.returncode, "already exists" in result.stderr) == (status, bool(status))


def test_a_failing_revision_leaves_the_one_before(
    postgresql: PostgreSQL, database: str, url: str
) -> None:
    postgresql.execute("CREATE TABLE items (id int)", database)
    result = alembic(url, "upgrade", "head")
    assert result.returncode != 0
    assert "already exists" in result.stderr
    assert postgresql.execute("SELECT version_num FROM alembic_version", database) == "0001"
    postgresql.execute("DROP TABLE items", database)
    upgrade(url)


def test_sqlite_of_development(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_ENVIRONMENT", "development")
    monkeypatch.setenv("APP_DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/x.sqlite3")
    for arguments in (["upgrade", "head"], ["downgrade", "base"], ["upgrade", "head"]):
        result = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert result.returncode == 0, result.stderr


def test_the_sql_can_be_read_before_it_runs(url: str) -> None:
    result = alembic(url, "upgrade", "head", "--sql")
    assert result.returncode == 0, result.stderr
    assert "CREATE TABLE users" in result.stdout
    assert "USING gin" in result.stdout


def test_a_missing_url_is_said_in_one_sentence() -> None:
    result = alembic("", "upgrade", "head")
    assert result.returncode == 1
    assert "set APP_DATABASE_URL" in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("path", REVISIONS, ids=lambda path: path.stem)
def test_every_revision_says_its_phase_and_its_number(path: Path) -> None:
    values: dict[str, object] = {
        target.id: node.value.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert values["phase"] in {"expand", "contract"}
    assert path.name.startswith(f"{values['revision']!s}_")


def test_the_revisions_are_one_line() -> None:
    known = known_revisions()
    assert len(known.every) == len(REVISIONS)
    assert known.required in known.every
    assert known.behind < known.every
