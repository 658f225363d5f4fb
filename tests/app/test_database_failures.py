"""Why the database cannot be used is told, and what it was given is not."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from app import database_failures, metrics
from tests.app.conftest import RunSql, StartApp, register
from tests.services import PostgreSQL


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_failures, "_told", {})


@pytest.fixture
def failing(sql: RunSql, request: pytest.FixtureRequest, empty: None) -> Iterator[str]:
    """Let each new account fail with this code, and with its values in the details."""
    sql(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'it fails' USING ERRCODE = '" + request.param + "', "
        "DETAIL = format('Key (email, hash)=(%s, %s)', NEW.email, NEW.password_hash); END $$;"
        "CREATE TRIGGER fail BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    yield request.param
    sql("DROP TRIGGER fail ON users; DROP FUNCTION fail")


def lines(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [line for line in found if line["event"] == event]


def count(kind: str) -> float:
    return float(metrics.DATABASE_UNAVAILABLE.labels(kind)._value.get())


@pytest.mark.parametrize("failing", ["22000", "23505"], indirect=True)
async def test_a_500_tells_nothing_of_what_the_database_was_given(
    start_app: StartApp, failing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await start_app()
    assert (await register(client, "leaky")).status_code in {409, 500}
    written = capsys.readouterr().err
    assert "argon2" not in written
    assert "leaky" not in written
    if failing == "22000":
        assert "it fails" in written


@pytest.mark.parametrize(
    ("failing", "kind"),
    [
        ("53100", "full"),
        ("53300", "full"),
        ("25006", "read_only"),
        ("40P01", "deadlock"),
        ("55P03", "lock"),
        ("57014", "timeout"),
    ],
    indirect=["failing"],
)
async def test_a_503_says_why_without_a_flood(
    start_app: StartApp, failing: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await start_app()
    before = count(kind)
    answers = [await register(client, f"ann{number}") for number in range(3)]
    assert {answer.status_code for answer in answers} == {503}
    assert count(kind) - before == 3
    (line,) = lines(capsys, "database.unavailable")
    assert (line["database_kind"], line["database_sqlstate"]) == (kind, failing)
    assert line["request_id"] == answers[0].headers["x-request-id"]
    assert not {"ann0", "INSERT", "argon2"} & set(str(line).replace("(", " ").split())
    database_failures._told[kind] = (database_failures._told[kind][0] - 60, 2)
    await register(client, "ann4")
    assert [line["suppressed"] for line in lines(capsys, "database.unavailable")] == [2]


async def test_a_database_that_is_away_and_one_that_refuses(
    start_app: StartApp, postgresql: PostgreSQL, capsys: pytest.CaptureFixture[str]
) -> None:
    away = await start_app(database_url="postgresql+asyncpg://x@/x?host=/nonexistent")
    refusing = await start_app(database_url=postgresql.url("harbour", "a_stranger"))
    for client in (away, refusing):
        assert (await client.get("/api/v1/items")).status_code == 503
    told = [line["database_kind"] for line in lines(capsys, "database.unavailable")]
    assert told == ["connection", "credentials"]


async def test_a_pool_without_a_free_connection(
    start_app: StartApp, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await start_app(database_read_pool_size=1, database_pool_timeout=0.05)
    database = client.application.state.resources.database  # type: ignore[attr-defined]
    async with database.reading():
        assert (await client.get("/api/v1/items")).status_code == 503
    (line,) = lines(capsys, "database.unavailable")
    assert (line["database_kind"], line["database_sqlstate"]) == ("pool_exhausted", None)


async def test_what_the_driver_refuses_is_not_repeated(
    start_app: StartApp, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await start_app()
    database = client.application.state.resources.database  # type: ignore[attr-defined]

    async def refused() -> None:
        async with database.reading() as connection:
            query = "SELECT * FROM users WHERE id = $1"
            await connection.exec_driver_sql(query, ("a-secret",))

    with pytest.raises(Exception, match="query argument") as caught:
        await refused()
    assert "a-secret" not in str(caught.value)
    assert "a-secret" not in str(caught.value.__cause__)
