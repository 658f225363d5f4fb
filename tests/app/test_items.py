"""The catalogue."""

import asyncio
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.app.conftest import Login, RunSql

LAMP: dict[str, Any] = {
    "title": "Lamp",
    "description": "It gives light.",
    "price": "19.99",
    "quantity": 3,
}


async def make(client: httpx.AsyncClient, headers: dict[str, str], **changes: Any) -> Any:
    answer = await client.post("/api/v1/items", json={**LAMP, **changes}, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_made_item_can_be_read_by_anyone(client: httpx.AsyncClient, login: Login) -> None:
    made = await make(client, await login("ann"), title="  Lamp ")
    assert {key: made[key] for key in LAMP} == LAMP
    assert made["owner_id"] == 1
    answer = await client.get(f"/api/v1/items/{made['id']}")
    assert answer.status_code == 200
    assert answer.json() == made


@pytest.mark.parametrize("price", ["0.01", "9999999999.99", "19.9", 19.99, 5])
async def test_a_price_is_exact(client: httpx.AsyncClient, login: Login, price: Any) -> None:
    made = await make(client, await login("ann"), price=price)
    assert made["price"] == f"{float(price):.2f}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", ""),
        ("title", "   "),
        ("title", "\u200b\x1f"),
        ("title", "x" * 201),
        ("title", "nul\x00"),
        ("description", "x" * 1001),
        ("price", "0"),
        ("price", "-1"),
        ("price", "1.001"),
        ("price", "NaN"),
        ("price", "Infinity"),
        ("price", "10000000000"),
        ("quantity", -1),
        ("quantity", 2**31),
        ("quantity", 1.5),
    ],
)
async def test_a_value_out_of_bounds_is_refused(
    client: httpx.AsyncClient, login: Login, field: str, value: Any
) -> None:
    headers = await login("ann")
    answer = await client.post("/api/v1/items", json={**LAMP, field: value}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", field]


async def test_pages(client: httpx.AsyncClient, login: Login) -> None:
    headers = await login("ann")
    for number in range(5):
        await make(client, headers, title=f"Lamp {number}")
    page = (await client.get("/api/v1/items?skip=1&limit=2")).json()
    assert [item["title"] for item in page["items"]] == ["Lamp 1", "Lamp 2"]
    assert (page["total"], page["skip"], page["limit"]) == (5, 1, 2)
    beyond = (await client.get("/api/v1/items?skip=9")).json()
    assert (beyond["items"], beyond["total"], beyond["limit"]) == ([], 5, 20)


async def test_an_empty_catalogue(client: httpx.AsyncClient) -> None:
    page = (await client.get("/api/v1/items")).json()
    assert page == {"items": [], "total": 0, "skip": 0, "limit": 20, "next_cursor": None}


@pytest.mark.parametrize(
    "query", ["skip=-1", "limit=0", "limit=101", "limit=x", "search=%00", f"skip={2**63}"]
)
async def test_a_page_out_of_bounds_is_refused(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/api/v1/items?{query}")
    assert answer.status_code == 422


# The database makes other small letters of some of them than Python does.
TITLES = ["ΟΔΟΣ", "İstanbul", "ΟΔΟΣΤΡΩΜΑ", "Straße", "STRASSE", "\u2126 Ohm"]


@pytest.mark.parametrize("title", TITLES)
async def test_a_title_is_found_by_its_own_text(
    client: httpx.AsyncClient, login: Login, title: str
) -> None:
    headers = await login("ann")
    for one in (f"The {title} of old", "Another"):
        await make(client, headers, title=one)
    parts = [title, title[:4], title[1:]]
    for query in [f"search={quote(part)}{more}" for part in parts for more in ("", "&cursor=0")]:
        page = (await client.get(f"/api/v1/items?{query}")).json()
        assert [item["title"] for item in page["items"]] == [f"The {title} of old"], query


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("lamp", ["Blue LAMP", "lamp_x"]),
        ("ue la", ["Blue LAMP"]),
        ("100%", ["100% wool"]),
        ("%", ["100% wool"]),
        ("_", ["lamp_x"]),
        ("/", ["a/b"]),
        ("\\", ["back\\slash"]),
        ("äRM", ["Ärmel"]),
        ("'; DROP TABLE items; --", []),
        ("", ["Blue LAMP", "lamp_x", "100% wool", "a/b", "back\\slash", "Ärmel"]),
    ],
)
async def test_search_finds_a_part_of_the_title_and_takes_no_pattern(
    client: httpx.AsyncClient, login: Login, search: str, found: list[str]
) -> None:
    headers = await login("ann")
    for title in ("Blue LAMP", "lamp_x", "100% wool", "a/b", "back\\slash", "Ärmel"):
        await make(client, headers, title=title)
    page = (await client.get("/api/v1/items", params={"search": search})).json()
    assert [item["title"] for item in page["items"]] == found
    assert page["total"] == len(found)


async def test_an_etag_saves_the_second_answer(client: httpx.AsyncClient, login: Login) -> None:
    headers = await login("ann")
    made = await make(client, headers)
    for path in ("/api/v1/items", f"/api/v1/items/{made['id']}"):
        first = await client.get(path)
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            second = await client.get(path, headers={"If-None-Match": known})
            assert (second.status_code, second.content) == (304, b"")
            assert second.headers["etag"] == tag
        await client.put(f"/api/v1/items/{made['id']}", json={**LAMP, "price": 1}, headers=headers)
        third = await client.get(path, headers={"If-None-Match": tag})
        assert third.status_code == 200
        assert third.headers["etag"] != tag
        await client.put(f"/api/v1/items/{made['id']}", json=LAMP, headers=headers)


async def test_an_owner_replaces_changes_and_deletes(
    client: httpx.AsyncClient, login: Login
) -> None:
    headers = await login("ann")
    path = f"/api/v1/items/{(await make(client, headers))['id']}"
    replaced = await client.put(path, json={"title": "Torch", "price": 2}, headers=headers)
    assert replaced.status_code == 200
    assert {key: replaced.json()[key] for key in LAMP} == {
        "title": "Torch",
        "description": "",
        "price": "2.00",
        "quantity": 0,
    }
    changed = await client.patch(path, json={"quantity": 9}, headers=headers)
    assert (changed.json()["title"], changed.json()["quantity"]) == ("Torch", 9)
    assert changed.json()["updated_at"] >= replaced.json()["updated_at"]
    untouched = await client.patch(path, json={}, headers=headers)
    assert untouched.json() == changed.json()
    assert (await client.patch(path, json={"price": None}, headers=headers)).status_code == 422
    gone = await client.delete(path, headers=headers)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await client.get(path)).status_code == 404


async def test_somebody_else_may_not_touch_it(client: httpx.AsyncClient, login: Login) -> None:
    path = f"/api/v1/items/{(await make(client, await login('ann')))['id']}"
    stranger = await login("bob")
    for answer in (
        await client.put(path, json=LAMP, headers=stranger),
        await client.patch(path, json={"quantity": 0}, headers=stranger),
        await client.delete(path, headers=stranger),
    ):
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "not_owner"
    assert (await client.get(path)).json()["quantity"] == LAMP["quantity"]


async def test_a_moderator_may(client: httpx.AsyncClient, login: Login) -> None:
    path = f"/api/v1/items/{(await make(client, await login('ann')))['id']}"
    moderator = await login("mod", role="moderator")
    assert (await client.put(path, json=LAMP, headers=moderator)).status_code == 200
    assert (await client.delete(path, headers=moderator)).status_code == 204


@pytest.mark.parametrize(("role", "missing"), [("moderator", "items:delete")])
async def test_a_moderators_token_needs_the_scope(
    client: httpx.AsyncClient, login: Login, role: str, missing: str
) -> None:
    path = f"/api/v1/items/{(await make(client, await login('ann')))['id']}"
    headers = await login("mod", role=role, scope="items:write")
    answer = await client.delete(path, headers=headers)
    assert answer.status_code == 403
    assert missing in answer.json()["error"]["message"]


async def test_writing_needs_a_token_with_the_scope(
    client: httpx.AsyncClient, login: Login
) -> None:
    assert (await client.post("/api/v1/items", json=LAMP)).status_code == 401
    assert (await client.delete("/api/v1/items/1")).status_code == 401
    reader = await login("ann", scope="items:read")
    answer = await client.post("/api/v1/items", json=LAMP, headers=reader)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "insufficient_scope"


async def test_an_owner_deletes_only_with_a_scope_to_write(
    client: httpx.AsyncClient, login: Login
) -> None:
    made = await make(client, await login("ann"))
    answer = await client.post(
        "/api/v1/auth/token",
        data={"username": "ann", "password": "Correct-horse-7", "scope": "items:read"},
    )
    reader = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    refused = await client.delete(f"/api/v1/items/{made['id']}", headers=reader)
    assert refused.status_code == 403
    assert "items:write" in refused.json()["error"]["message"]


@pytest.mark.parametrize("item_id", ["1", str(2**63 - 1)])
async def test_an_unknown_item_is_a_404(
    client: httpx.AsyncClient, login: Login, item_id: str
) -> None:
    headers = await login("ann")
    path = f"/api/v1/items/{item_id}"
    for answer in (
        await client.get(path),
        await client.put(path, json=LAMP, headers=headers),
        await client.patch(path, json={}, headers=headers),
        await client.delete(path, headers=headers),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "item_not_found"


@pytest.mark.parametrize("item_id", ["0", "-1", "x", str(2**63)])
async def test_an_impossible_id_is_a_422(client: httpx.AsyncClient, item_id: str) -> None:
    assert (await client.get(f"/api/v1/items/{item_id}")).status_code == 422


async def test_changes_at_once_follow_one_another(client: httpx.AsyncClient, login: Login) -> None:
    headers = await login("ann")
    path = f"/api/v1/items/{(await make(client, headers))['id']}"
    answers = await asyncio.gather(
        *(client.patch(path, json={"quantity": number}, headers=headers) for number in range(8))
    )
    assert {answer.status_code for answer in answers} == {200}


async def test_the_answer_comes_after_the_commit(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    headers = await login("ann")
    sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'refused at commit'; END $$;"
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON items "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    try:
        answer = await client.post("/api/v1/items", json=LAMP, headers=headers)
    finally:
        sql("DROP TRIGGER refuse ON items; DROP FUNCTION refuse()")
    assert answer.status_code == 500
    assert "refused" not in answer.text
