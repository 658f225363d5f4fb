"""The queue's schema: read from its package, and told apart by a comment."""

import ast
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.schema import MIGRATIONS
from migrations import jobs_schema
from tests.services import ROOT, SERVICE, PostgreSQL, alembic

COMMENT = "SELECT obj_description('procrastinate_jobs'::regclass)"
DEFER = (
    "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW('default', 'a', 0, NULL, NULL, '{}'::jsonb, NULL)"
    "::procrastinate_job_to_defer_v1])"
)


def names_in(path: Path) -> set[str]:
    """Return the migrations of the package that a revision names."""
    return {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.endswith(".sql")
    }


def test_the_revisions_know_the_newest_migration_of_the_package() -> None:
    revisions = sorted((MIGRATIONS / "versions").glob("*.py"))
    newest = jobs_schema.migrations()[-1]
    known = max(name for path in revisions for name in names_in(path))
    version = importlib.metadata.version("procrastinate")
    assert newest <= known, (
        f"procrastinate {version} has migrations up to {newest}, the revisions run them up to "
        f'{known}. Add a revision for each newer `pre` file that calls jobs_schema.upgrade("…") '
        'with phase = "expand", and one for each `post` file with phase = "contract".'
    )


def test_a_database_tells_which_schema_it_has(
    postgresql: PostgreSQL, database: str, url: str
) -> None:
    assert alembic(url, "upgrade", "head").returncode == 0
    assert postgresql.execute(COMMENT, database) == jobs_schema.migrations()[-1]


def test_the_serving_role_may_use_the_queue(
    postgresql: PostgreSQL, database: str, url: str
) -> None:
    assert alembic(url, "upgrade", "head").returncode == 0
    assert postgresql.execute(DEFER, database, SERVICE) == "{1}"
    for statement, answer in (
        ("SELECT worker_id FROM procrastinate_register_worker_v1()", "1"),
        ("SELECT procrastinate_update_heartbeat_v1(1)", ""),
        ("SELECT id, status FROM procrastinate_fetch_job_v2(NULL, 1)", "1|doing"),
        ("SELECT procrastinate_retry_job_v2(1, now(), NULL, NULL, NULL)", ""),
        ("SELECT procrastinate_finish_job_v1(1, 'succeeded', true)", ""),
        ("SELECT procrastinate_defer_periodic_job_v2('q', NULL, NULL, 'b', 0, '', 60, '{}')", "2"),
        ("DELETE FROM procrastinate_jobs", ""),
        ("SELECT procrastinate_unregister_worker_v1(1)", ""),
    ):
        assert postgresql.execute(statement, database, SERVICE) == answer
    with pytest.raises(subprocess.CalledProcessError):
        postgresql.execute("DROP TABLE procrastinate_jobs", database, SERVICE)


def test_a_script_that_fails_leaves_nothing(
    postgresql: PostgreSQL, database: str, url: str
) -> None:
    """The script runs in the transaction of its revision."""
    postgresql.execute("CREATE TABLE procrastinate_events (id int)", database)
    result = alembic(url, "upgrade", "head")
    assert result.returncode != 0
    assert "already exists" in result.stderr
    assert postgresql.execute("SELECT to_regclass('procrastinate_jobs')", database) == ""
    postgresql.execute("DROP TABLE procrastinate_events", database)
    assert alembic(url, "upgrade", "head").returncode == 0


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A copy of the revisions for a package with two more migrations."""
    shutil.copytree(MIGRATIONS, tmp_path / "migrations", ignore=lambda *_: ["__pycache__"])
    (tmp_path / "app").symlink_to(ROOT / "app")
    sql = tmp_path / "sql"
    (sql / "migrations").mkdir(parents=True)
    for name in jobs_schema.migrations():
        (sql / "migrations" / name).write_text("SELECT 'it runs no more'::int;")
    (sql / "migrations/99.00.00_01_pre_more.sql").write_text(
        "CREATE TABLE procrastinate_more (a int, b text DEFAULT ':name 100%');\n"
        "CREATE FUNCTION procrastinate_f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN "
        "RETURN 1; END; $$;\n"
        "ALTER TYPE procrastinate_job_event_type ADD VALUE 'more';\n"
    )
    (sql / "migrations/99.00.00_50_post_more.sql").write_text("DROP TABLE procrastinate_more;\n")
    module = tmp_path / "migrations/jobs_schema.py"
    module.write_text(
        module.read_text().replace(
            '_FOLDER = resources.files("procrastinate") / "sql"',
            f'_FOLDER = __import__("pathlib").Path("{sql}")',
        )
    )
    head = max((tmp_path / "migrations/versions").glob("*.py")).name.partition("_")[0]
    for number, before, name in (
        ("9998", head, "99.00.00_01_pre_more.sql"),
        ("9999", "9998", "99.00.00_50_post_more.sql"),
    ):
        (tmp_path / f"migrations/versions/{number}_more.py").write_text(
            '"""More."""\n\nfrom migrations import jobs_schema\n\n'
            f'revision = "{number}"\ndown_revision = "{before}"\nphase = "expand"\n\n\n'
            f'def upgrade() -> None:\n    jobs_schema.upgrade("{name}")\n'
        )
    return tmp_path


def expand(
    folder: Path, url: str, *arguments: str, command: str = "expand"
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "migrations", command, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        env={"APP_DATABASE_URL": url, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_a_newer_package_brings_its_migrations(
    postgresql: PostgreSQL, database: str, url: str, newer: Path
) -> None:
    assert alembic(url, "upgrade", "head").returncode == 0
    planned = expand(newer, url, command="plan")
    assert "':name 100%'" in planned.stdout, planned.stderr
    result = expand(newer, url)
    assert result.returncode == 0, result.stderr
    assert "Done: 9998, 9999." in result.stdout
    assert postgresql.execute(COMMENT, database) == "99.00.00_50_post_more.sql"
    assert postgresql.execute("SELECT procrastinate_f()", database) == "1"


def test_a_database_that_a_newer_package_made_runs_nothing_twice(
    postgresql: PostgreSQL, database: str, url: str, newer: Path
) -> None:
    (newer / "sql/schema.sql").write_text(
        "CREATE TABLE procrastinate_jobs (id int);\n"
        "CREATE TYPE procrastinate_job_event_type AS ENUM ('a');\n"
    )
    result = expand(newer, url)
    assert result.returncode == 0, result.stderr
    assert postgresql.execute(COMMENT, database) == "99.00.00_50_post_more.sql"
    assert postgresql.execute("SELECT to_regclass('procrastinate_more')", database) == ""


def test_an_older_package_is_refused(url: str, newer: Path) -> None:
    (newer / "sql/migrations/99.00.00_50_post_more.sql").unlink()
    (newer / "sql/schema.sql").write_text("CREATE TABLE procrastinate_jobs (id int);\n")
    result = expand(newer, url)
    assert result.returncode == 1
    assert "install the version that is in uv.lock" in result.stderr
