"""Changes that are refused when somebody else was quicker, and pages that go deep."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from app.items.service import export_items
from tests.app.conftest import Login, RunSql, StartApp, register

LAMP: dict[str, Any] = {"title": "Lamp", "description": "", "price": "19.99", "quantity": 3}
BOOK = {"title": "Emma", "author": "Jane Austen", "isbn": "9780141439587", "price": "7.50"}


@pytest.mark.parametrize(("place", "thing"), [("items", LAMP), ("books", BOOK)])
async def test_a_lost_update_is_refused(
    client: httpx.AsyncClient, login: Login, place: str, thing: dict[str, Any]
) -> None:
    headers = await login("ann")
    created = await client.post(f"/api/v1/{place}", json=thing, headers=headers)
    path = f"/api/v1/{place}/{created.json()['id']}"
    read = await client.get(path)
    assert read.headers["etag"] == created.headers["etag"]
    assert read.content == created.content
    expecting = {**headers, "If-Match": read.headers["etag"]}
    first = await client.put(path, json={**thing, "price": "1.00"}, headers=expecting)
    assert first.status_code == 200
    for method in ("put", "delete", *(["patch"] if place == "items" else [])):
        body = None if method == "delete" else {**thing, "price": "2.00"}
        late = await client.request(method, path, headers=expecting, json=body)
        assert (late.status_code, late.json()["error"]["code"]) == (412, "precondition_failed")
    assert (await client.get(path)).headers["etag"] == first.headers["etag"]
    # As Nginx gives it back from a compressed answer, in a list, or whatever is there.
    tag = first.headers["etag"]
    for price, form in enumerate(("W/{}", '"other", {}', "*"), 3):
        expected = {**headers, "If-Match": form.format(tag)}
        again = await client.put(path, json={**thing, "price": f"{price}.00"}, headers=expected)
        assert again.status_code == 200, form
        tag = again.headers["etag"]
    for nothing in ("", "x", "other", f"{tag[1:-1]}"):
        refused = await client.delete(path, headers={**headers, "If-Match": nothing})
        assert refused.status_code == 412
    gone = await client.delete(path, headers={**headers, "If-Match": "*"})
    assert gone.status_code == 204
    missing = await client.delete(path, headers={**headers, "If-Match": "*"})
    assert missing.status_code == 404


async def test_of_many_who_expect_the_same_state_one_changes_it(
    client: httpx.AsyncClient, login: Login
) -> None:
    headers = await login("ann")
    created = await client.post("/api/v1/items", json=LAMP, headers=headers)
    path = f"/api/v1/items/{created.json()['id']}"
    expecting = {**headers, "If-Match": created.headers["etag"]}
    answers = await asyncio.gather(
        *(client.patch(path, json={"quantity": 10 + n}, headers=expecting) for n in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 7]


async def test_an_item_names_its_owner(client: httpx.AsyncClient, login: Login) -> None:
    headers = await login("ann")
    created = (await client.post("/api/v1/items", json=LAMP, headers=headers)).json()
    assert created["owner"] == {"id": created["owner_id"], "username": "ann"}
    moderator = await login("mod", role="moderator")
    path = f"/api/v1/items/{created['id']}"
    changed = (await client.patch(path, json={"quantity": 1}, headers=moderator)).json()
    assert changed["owner"]["username"] == "ann"
    assert (await client.get("/api/v1/items")).json()["items"][0]["owner"] == created["owner"]


@pytest.mark.parametrize("search", [None, "lamp 1"])
async def test_pages_by_cursor_are_the_whole_list(
    client: httpx.AsyncClient, login: Login, sql: RunSql, search: str | None
) -> None:
    await login("ann")
    sql(
        "INSERT INTO items (owner_id, title, price) "
        "SELECT 1, 'Lamp ' || number, 1 FROM generate_series(1, 23) AS number;"
        "DELETE FROM items WHERE id IN (5, 6, 21)"
    )
    query: dict[str, Any] = {"limit": 4, **({"search": search} if search else {})}
    everything = (await client.get("/api/v1/items", params={**query, "limit": 100})).json()
    assert everything["next_cursor"] is None
    found: list[Any] = []
    cursor: Any = 0
    while cursor is not None:
        page = (await client.get("/api/v1/items", params={**query, "cursor": cursor})).json()
        assert page["total"] is None
        assert 0 < len(page["items"]) <= 4
        found += page["items"]
        cursor = page["next_cursor"]
    assert found == everything["items"]
    first = (await client.get("/api/v1/items", params=query)).json()
    assert first["next_cursor"] == first["items"][-1]["id"]


async def test_a_page_begins_at_one_place(client: httpx.AsyncClient) -> None:
    both = await client.get("/api/v1/items?skip=1&cursor=1")
    assert (both.status_code, both.json()["error"]["code"]) == (400, "skip_with_cursor")
    assert (await client.get("/api/v1/items?cursor=-1")).status_code == 422
    beyond = (await client.get("/api/v1/items?cursor=999")).json()
    assert (beyond["items"], beyond["next_cursor"]) == ([], None)


async def test_an_export_is_every_item_on_a_line(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    headers = await login("ann")
    empty = await client.get("/api/v1/items/export", headers=headers)
    assert (empty.status_code, empty.content) == (200, b"")
    sql(
        "INSERT INTO items (owner_id, title, price) "
        "SELECT 1, E'Line\\nof ' || number, number FROM generate_series(1, 1234) AS number"
    )
    answer = await client.get("/api/v1/items/export", headers=headers)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    items = [json.loads(line) for line in answer.text.splitlines()]
    assert [item["id"] for item in items] == list(range(1, 1235))
    assert items[0] == (await client.get("/api/v1/items/1")).json()
    assert (await client.get("/api/v1/items/export")).status_code == 401


async def test_an_export_holds_a_batch_at_a_time_and_no_connection_between_them(
    start_app: StartApp, sql: RunSql
) -> None:
    client = await start_app(database_read_pool_size=1, database_pool_timeout=1)
    await register(client, "ann")
    sql(
        "INSERT INTO items (owner_id, title, price) "
        "SELECT 1, 'Lamp', 1 FROM generate_series(1, 3000)"
    )
    database = client.application.state.resources.database  # type: ignore[attr-defined]
    pieces = [await export_items(database) for _ in range(20)]
    firsts = [await anext(one) for one in pieces]
    assert all(0 < len(first) < 500 * 400 for first in firsts)
    # Twenty exports are under way, and the one connection is free.
    assert (await client.get("/api/v1/items?limit=1")).status_code == 200
    sizes = [len(piece) async for piece in pieces[0]]
    assert len(sizes) == 5


async def test_an_export_that_breaks_off_does_not_look_whole(
    client: httpx.AsyncClient, login: Login, sql: RunSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = await login("ann")
    sql(
        "INSERT INTO items (owner_id, title, price) "
        "SELECT 1, 'Lamp', 1 FROM generate_series(1, 2000)"
    )
    database = client.application.state.resources.database  # type: ignore[attr-defined]
    real, calls = database.fetch, 0

    async def fails(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        # The caller, the first batch, and then no more.
        if calls > 2:
            raise RuntimeError("The database has gone.")
        return await real(*arguments)

    monkeypatch.setattr(database, "fetch", fails)
    with pytest.raises(RuntimeError):
        await client.get("/api/v1/items/export", headers=headers)
