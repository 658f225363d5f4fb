"""How often a request asks the database, as its server counts."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from tests.app.conftest import StartApp, log_in, register
from tests.services import PostgreSQL
from tests.statements import Statements, recorded

ITEM = {"title": "An anchor", "price": "9.99"}


@pytest.fixture
async def asked(
    postgresql: PostgreSQL, start_app: StartApp
) -> AsyncIterator[tuple[httpx.AsyncClient, Callable[[], list[str]]]]:
    """A caller whose connections are open, and what the database was asked since."""
    with recorded(postgresql) as statements:
        client = await start_app(limit_default="1000/minute")
        await register(client, "ann")
        token = (await log_in(client, "ann")).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        # The first request of a connection makes the driver ask for types.
        for _ in range(2):
            await client.get("/api/v1/users/me")
            await client.post("/api/v1/items", json=ITEM)
        fresh: Statements = statements
        fresh.new()
        yield client, fresh.new


async def test_a_read_asks_once_who_the_caller_is(
    asked: tuple[httpx.AsyncClient, Callable[[], list[str]]],
) -> None:
    client, new = asked
    assert (await client.get("/api/v1/users/me")).status_code == 200
    (statement,) = new()
    assert statement.startswith("SELECT users.id")


async def test_a_write_asks_for_the_caller_and_for_its_own_transaction(
    asked: tuple[httpx.AsyncClient, Callable[[], list[str]]],
) -> None:
    client, new = asked
    assert (await client.post("/api/v1/items", json=ITEM)).status_code == 201
    caller, *transaction = new()
    assert caller.startswith("SELECT users.id")
    assert [statement.split()[0].rstrip(";") for statement in transaction] == [
        "BEGIN",
        "INSERT",
        "COMMIT",
    ]


async def test_a_list_asks_for_no_caller(
    asked: tuple[httpx.AsyncClient, Callable[[], list[str]]],
) -> None:
    client, new = asked
    assert (await client.get("/api/v1/items")).status_code == 200
    (statement,) = new()
    assert statement.startswith("SELECT items.id")


async def test_a_token_that_is_not_ours_asks_nothing(
    asked: tuple[httpx.AsyncClient, Callable[[], list[str]]],
) -> None:
    client, new = asked
    forged = {"Authorization": "Bearer forged.token.1"}
    assert (await client.get("/api/v1/users/me", headers=forged)).status_code == 401
    assert new() == []
