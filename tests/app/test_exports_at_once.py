"""How often the catalogue is exported, and how many exports are under way at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.types import Message

from tests.app.conftest import RunSql, StartApp, log_in, register

PATH = "/api/v1/items/export"
StartReader = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
def start_reader(start_app: StartApp, sql: RunSql) -> StartReader:
    """Start an instance with two batches of items, for an account of this name."""

    async def start(username: str, **changes: Any) -> httpx.AsyncClient:
        client = await start_app(**changes)
        await register(client, username)
        token = (await log_in(client, username)).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        await asyncio.to_thread(
            sql,
            "INSERT INTO items (owner_id, title, price) "
            "SELECT 1, 'Lamp', 1 FROM generate_series(1, 700) WHERE NOT EXISTS (TABLE items)",
        )
        return client

    return start


class Held:
    """An export whose reader takes its first piece, and waits."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.status = 0
        self._began, self._goes_on = asyncio.Event(), asyncio.Event()
        headers = {"host": "testserver", "authorization": client.headers["Authorization"]}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("192.0.2.7", 4711),
            "server": ("testserver", 80),
        }
        application = client.application  # type: ignore[attr-defined]
        self.task = asyncio.create_task(application(scope, self._receive, self._send))

    async def begun(self) -> "Held":
        async with asyncio.timeout(20):
            await self._began.wait()
        assert self.status == 200
        return self

    async def ended(self) -> None:
        self._goes_on.set()
        await self.task

    async def _receive(self) -> Message:
        return {"type": "http.request"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self._began.set()
        await self._goes_on.wait()


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_exports_have_a_limit_of_their_own(start_reader: StartReader) -> None:
    client = await start_reader("ann", limit_export="2/minute")
    for _ in range(2):
        assert (await client.get(PATH)).status_code == 200
    refused = await client.get(PATH)
    assert code_of(refused) == (429, "rate_limited")
    assert refused.headers["x-ratelimit-limit"] == "2"
    assert (await client.get("/api/v1/items")).status_code == 200


async def test_an_account_has_a_few_exports_on_all_workers_together(
    start_reader: StartReader,
) -> None:
    one = await start_reader("ann")
    other = await start_reader("bob")
    stranger = other.headers["Authorization"]
    other.headers["Authorization"] = one.headers["Authorization"]
    held = [await Held(client).begun() for client in (one, other)]
    for client in (one, other):
        refused = await client.get(PATH)
        assert code_of(refused) == (429, "too_many_exports")
        assert refused.headers["retry-after"] == "1"
    # Others have places of their own, and so has the next one when one has ended.
    answer = await other.get(PATH, headers={"Authorization": stranger})
    assert answer.content.count(b"\n") == 700
    await held.pop().ended()
    assert (await one.get(PATH)).status_code == 200
    await held.pop().ended()


@pytest.mark.parametrize("url", [None, "unix:///nonexistent"])
async def test_without_the_store_each_worker_counts_for_itself(
    start_reader: StartReader, url: str | None
) -> None:
    client = await start_reader("ann", cache_url=url, exports_per_account=1)
    held = await Held(client).begun()
    assert code_of(await client.get(PATH)) == (429, "too_many_exports")
    await held.ended()
    assert (await client.get(PATH)).status_code == 200


async def test_a_worker_sends_so_many_exports_and_no_more(start_reader: StartReader) -> None:
    client = await start_reader("ann", exports_per_worker=1)
    held = await Held(client).begun()
    refused = await client.get(PATH)
    assert code_of(refused) == (503, "too_many_transfers")
    assert refused.headers["retry-after"] == "2"
    await held.ended()
    assert (await client.get(PATH)).status_code == 200


async def test_an_export_that_ends_badly_gives_its_place_back(
    start_reader: StartReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start_reader("ann", exports_per_account=1)
    held = await Held(client).begun()
    held.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held.task
    with monkeypatch.context() as broken:
        broken.setattr("app.items.repository.list_following", None)
        for _ in range(2):
            assert (await client.get(PATH)).status_code == 500
    assert (await client.get(PATH)).status_code == 200


async def test_the_documentation_declares_the_refusals(client: httpx.AsyncClient) -> None:
    document = client.application.openapi()  # type: ignore[attr-defined]
    assert {"200", "401", "403", "429", "503"} <= set(document["paths"][PATH]["get"]["responses"])
