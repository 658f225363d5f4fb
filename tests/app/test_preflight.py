"""The look before the start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import preflight
from tests.app.conftest import SECRET
from tests.app.s3_server import running_s3
from tests.services import OWNER, ROOT, PostgreSQL, RedisServer, alembic


@pytest.fixture
def environment(
    database_url: str, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    (tmp_path / "app_token_secret").write_text(SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("APP_DATABASE_URL", database_url)
    monkeypatch.setenv("APP_CACHE_URL", redis_server.url)
    monkeypatch.setenv("APP_FILE_FOLDER", str(tmp_path))
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


def test_a_bucket_that_cannot_be_used_is_a_warning(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "app_s3_secret_key").write_text("never-to-be-shown")
    with running_s3(tmp_path / "store") as server:
        for name, value in server.settings.items():
            if name != "s3_secret_key":
                environment.setenv(f"APP_{name.upper()}", str(value))
        capsys.readouterr()
        assert preflight.main() == 0
        assert capsys.readouterr().err == ""
        environment.setenv("APP_S3_BUCKET", "another")
        assert preflight.main() == 0
        shown = capsys.readouterr().err
        (said,) = [line for line in shown.splitlines() if line.startswith("Warning: ")]
        assert "The bucket another cannot be listed (" in said
        assert "APP_S3_ACCESS_KEY" in said
    # Nobody gives a key, as where 169.254.169.254 may not be reached.
    environment.setenv("APP_S3_ACCESS_KEY", "")
    environment.setenv("APP_S3_ENDPOINT", "http://127.0.0.1:9")
    environment.setenv("APP_S3_TIMEOUT", "1")
    assert preflight.main() == 0
    shown = capsys.readouterr().err
    assert "the role of this host" in shown
    assert "never-to-be-shown" not in shown


def test_a_folder_that_is_not_there_is_a_warning(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("APP_FILE_FOLDER", "/nonexistent")
    assert preflight.main() == 0
    assert "Warning: The folder /nonexistent cannot be used" in capsys.readouterr().err
    # One warning does not hide the other.
    environment.setenv("APP_CACHE_URL", "unix:///nonexistent")
    assert preflight.main() == 0
    said = capsys.readouterr().err
    assert "Warning: The cache at unix:///nonexistent" in said
    assert "The folder /nonexistent cannot be used" in said
