"""The look before the start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import preflight
from tests.app.conftest import SECRET
from tests.services import OWNER, ROOT, PostgreSQL, RedisServer, alembic


@pytest.fixture
def environment(
    database_url: str, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    (tmp_path / "app_token_secret").write_text(SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("APP_DATABASE_URL", database_url)
    monkeypatch.setenv("APP_CACHE_URL", redis_server.url)
    monkeypatch.setenv("APP_RELEASE", "v1.2.3")
    return monkeypatch


def test_a_host_that_is_ready(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preflight.main() == 0
    shown = capsys.readouterr()
    assert shown.out == "Release v1.2.3 can serve here.\n"
    assert shown.err == ""


def test_it_runs_as_a_module(environment: pytest.MonkeyPatch) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "app.preflight"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=dict(os.environ),
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("APP_DATABASE_URL", "postgresql+asyncpg://x@/x?host=/nonexistent", "cannot be reached"),
        ("APP_DATABASE_URL", "sqlite+aiosqlite:///x", "production needs PostgreSQL"),
        ("CREDENTIALS_DIRECTORY", "/nonexistent", "not a directory"),
        ("APP_LIMIT_LOGIN", "often", "APP_LIMIT_LOGIN"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    said: str,
) -> None:
    environment.setenv(name, value)
    assert preflight.main() == 1
    shown = capsys.readouterr().err
    assert said in shown
    assert len(shown.splitlines()) == 1


def test_an_empty_database_is_fine(
    environment: pytest.MonkeyPatch, postgresql: PostgreSQL, capsys: pytest.CaptureFixture[str]
) -> None:
    name = postgresql.create_database("fresh")
    environment.setenv("APP_DATABASE_URL", postgresql.url(name))
    assert preflight.main() == 0


def test_a_database_that_waits_for_a_migration_is_fine(
    environment: pytest.MonkeyPatch, postgresql: PostgreSQL
) -> None:
    name = postgresql.create_database("waiting")
    assert alembic(postgresql.url(name, OWNER), "upgrade", "0001").returncode == 0
    environment.setenv("APP_DATABASE_URL", postgresql.url(name))
    assert preflight.main() == 0


def test_a_database_of_a_newer_release_is_not(
    environment: pytest.MonkeyPatch, postgresql: PostgreSQL, capsys: pytest.CaptureFixture[str]
) -> None:
    name = postgresql.create_database("newer")
    postgresql.execute(
        "CREATE TABLE alembic_version (version_num varchar(32));"
        "INSERT INTO alembic_version VALUES ('9999'); GRANT SELECT ON alembic_version TO PUBLIC",
        name,
    )
    environment.setenv("APP_DATABASE_URL", postgresql.url(name))
    assert preflight.main() == 1
    assert "revision 9999, which this release does not know" in capsys.readouterr().err


def test_a_cache_that_is_down_is_a_warning(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("APP_CACHE_URL", "unix:///nonexistent")
    assert preflight.main() == 0
    assert capsys.readouterr().err.startswith("Warning: The cache at unix:///nonexistent")


def test_the_password_of_the_database_is_not_shown(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app_database_password").write_text("open-sesame")
    environment.setenv("APP_DATABASE_URL", "postgresql+asyncpg://x@/x?host=/nonexistent")
    assert preflight.main() == 1
    assert "open-sesame" not in capsys.readouterr().err
