"""The program that saves a PostgreSQL database, on a real one."""

import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import slipway_dump
from tests.services import OWNER, PostgreSQL, running_postgresql

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "roles/app/files/slipway_dump.py"
RUNBOOK = ROOT / "docs/runbook.md"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with running_postgresql() as cluster:
        yield cluster


@pytest.fixture
def database(postgresql: PostgreSQL) -> Iterator[str]:
    name = postgresql.create_database("harbour")
    postgresql.execute(f"ALTER SCHEMA public OWNER TO {OWNER}", name)
    postgresql.execute(
        "CREATE TABLE boats (name text); INSERT INTO boats VALUES ('Argo')", name, OWNER
    )
    yield name
    postgresql.execute(f"DROP DATABASE {name}")


def save(folder: Path, url: str, what: str, **files: str) -> "subprocess.CompletedProcess[str]":
    credentials = folder / "credentials"
    credentials.mkdir(exist_ok=True)
    for name, text in files.items():
        (credentials / name).write_text(text)
    points = folder / "points"
    points.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-I", str(PROGRAM), "THE_URL", "the_password", what],
        env={
            "PATH": os.environ["PATH"],
            "THE_URL": url,
            "CREDENTIALS_DIRECTORY": str(credentials),
            "STATE_DIRECTORY": str(points),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_size_is_that_of_the_database(
    postgresql: PostgreSQL, database: str, tmp_path: Path
) -> None:
    result = save(tmp_path, postgresql.url(database, OWNER), "size")
    assert result.returncode == 0, result.stderr
    said = int((tmp_path / "points/size").read_text())
    assert said == int(postgresql.execute(f"SELECT pg_database_size('{database}')"))


def test_a_dump_brings_the_database_back(
    postgresql: PostgreSQL, database: str, tmp_path: Path
) -> None:
    (tmp_path / "points").mkdir()
    (tmp_path / "points/v0.9.0-left.part").write_text("half")
    result = save(tmp_path, postgresql.url(database, OWNER), "v1.0.0")
    assert result.returncode == 0, result.stderr
    (point,) = (tmp_path / "points").iterdir()
    assert point.match("v1.0.0-*Z.dump")
    assert str(point) in result.stdout
    assert stat.S_IMODE(point.stat().st_mode) == 0o600
    postgresql.execute("DROP TABLE boats; CREATE TABLE wrecks (name text)", database, OWNER)
    restore(postgresql, database, point)
    assert postgresql.execute("SELECT name FROM boats", database, "harbour") == "Argo"
    assert not postgresql.execute("SELECT to_regclass('wrecks')", database)
    postgresql.execute("CREATE TABLE later (id int)", database, OWNER)
    # What the service may do with tables to come is part of it.
    assert postgresql.execute("SELECT count(*) FROM later", database, "harbour") == "0"


def restore(postgresql: PostgreSQL, database: str, point: Path) -> None:
    """Restore by the command of the runbook, without the user that only a host has."""
    lines = RUNBOOK.read_text().split("## Restore a dump")[1].split("```")[1].splitlines()
    script = "\n".join(
        line.removeprefix("$ ") for line in lines if "pg_restore" in line or "psql" in line
    )
    for said, here in (
        ("sudo -u harbour-migrate ", ""),
        ("--host=/run/postgresql", f"--host={postgresql.folder}"),
        ("dbname=harbour", f"dbname={database}"),
        ("DUMP", shlex.quote(str(point))),
    ):
        assert said in script
        script = script.replace(said, here)
    environment = {**os.environ, "PATH": f"{postgresql.programs}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["sh", "-euc", script],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr


def test_what_cannot_be_saved_leaves_nothing(
    postgresql: PostgreSQL, database: str, tmp_path: Path
) -> None:
    postgresql.execute("CREATE TABLE hidden (id int)", database)
    result = save(tmp_path, postgresql.url(database, OWNER), "v1.0.0")
    assert result.returncode == 1
    assert "The database was not saved: pg_dump failed:" in result.stderr
    assert "permission denied for table hidden" in result.stderr
    assert not list((tmp_path / "points").iterdir())


def test_a_killed_dump_is_no_restore_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def die(arguments: list[str], _: object) -> str:
        asked.extend(arguments)
        (tmp_path / "v1.0.0-half.part").write_text("half")
        raise slipway_dump.DumpError("pg_dump failed")

    monkeypatch.setattr(slipway_dump, "run", die)
    with pytest.raises(slipway_dump.DumpError):
        slipway_dump.write_dump(tmp_path, "v1.0.0", {})
    # A lock that somebody holds is not waited for without end.
    assert "--lock-wait-timeout=30s" in asked
    assert not list(tmp_path.glob("*.dump"))


@pytest.mark.parametrize(
    ("url", "variables", "password"),
    [
        (
            "postgresql+asyncpg://quay_owner@/quay?host=/run/postgresql",
            {"PGHOST": "/run/postgresql", "PGUSER": "quay_owner", "PGDATABASE": "quay"},
            "",
        ),
        (
            "postgresql+asyncpg://quay_owner@[2001:db8::5]:5432/quay?ssl=require",
            {
                "PGHOST": "2001:db8::5",
                "PGPORT": "5432",
                "PGUSER": "quay_owner",
                "PGDATABASE": "quay",
                "PGSSLMODE": "require",
            },
            "",
        ),
        (
            "postgres://a%40b:se%3Acret@db.example/quay?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            {
                "PGHOST": "db.example",
                "PGUSER": "a@b",
                "PGDATABASE": "quay",
                "PGSSLMODE": "verify-full",
                "PGSSLROOTCERT": "/etc/ca.pem",
            },
            "se:cret",
        ),
    ],
)
def test_a_url_becomes_variables(url: str, variables: dict[str, str], password: str) -> None:
    assert slipway_dump.connection(url) == (variables, password)


def test_the_password_is_in_a_private_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("THE_URL", "postgresql://quay@db.example/quay")
    (tmp_path / "word").write_text("a:b\\c\n")
    private = tmp_path / "private"
    private.mkdir()
    variables = slipway_dump.environment("THE_URL", "word", private)
    file = Path(variables["PGPASSFILE"])
    assert file.read_text() == "*:*:*:*:a\\:b\\\\c\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "a:b" not in " ".join(variables.values())
    assert "THE_URL" not in variables


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "THE_URL is not set"),
        ("sqlite:///quay.db", "begins with 'sqlite': only postgresql:// is saved"),
        ("postgresql://quay@db.example/", "names no database"),
        ("postgresql://quay@127.0.0.1:1/quay", "psql failed:"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, url: str, reason: str) -> None:
    result = save(tmp_path, url, "size", the_password="secret")
    assert result.returncode == 1
    assert reason in result.stderr
    assert "secret" not in result.stderr
