"""The library."""

from typing import Any

import httpx
import pytest

from tests.app.conftest import Login

EMMA: dict[str, Any] = {
    "title": "Emma",
    "author": "Jane Austen",
    "isbn": "9780141439587",
    "price": "7.50",
    "description": "A novel about youthful hubris.",
}


async def make(client: httpx.AsyncClient, headers: dict[str, str], **changes: Any) -> Any:
    answer = await client.post("/api/v1/books", json={**EMMA, **changes}, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_made_book_can_be_read_by_anyone(client: httpx.AsyncClient, login: Login) -> None:
    made = await make(client, await login("ann"), title="  Emma ")
    assert {key: made[key] for key in EMMA} == EMMA
    assert (await client.get(f"/api/v1/books/{made['id']}")).json() == made
    page = (await client.get("/api/v1/books")).json()
    assert page == {"books": [made], "total": 1, "skip": 0, "limit": 20}


async def test_an_isbn_is_of_one_book(client: httpx.AsyncClient, login: Login) -> None:
    headers = await login("ann")
    await make(client, headers)
    other = await make(client, headers, isbn="9780141439662")
    twice = await client.post("/api/v1/books", json=EMMA, headers=await login("bob"))
    moved = await client.put(
        f"/api/v1/books/{other['id']}", json={"isbn": EMMA["isbn"]}, headers=headers
    )
    for answer in (twice, moved):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "isbn_taken")
    assert (await client.get(f"/api/v1/books/{other['id']}")).json() == other


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("isbn", "978014143958"),
        ("isbn", "97801414395877"),
        ("isbn", "978-0141439587"),
        ("isbn", "978014143958X"),
        ("isbn", "9780141439587\n"),
        ("isbn", "٩٧٨٠١٤١٤٣٩٥٨٧"),
        ("isbn", 9780141439587),
        ("title", " "),
        ("author", ""),
        ("author", "x" * 201),
        ("price", "0"),
        ("price", "1.005"),
        ("description", "x" * 1001),
    ],
)
async def test_a_value_out_of_bounds_is_refused(
    client: httpx.AsyncClient, login: Login, field: str, value: Any
) -> None:
    headers = await login("ann")
    answer = await client.post("/api/v1/books", json={**EMMA, field: value}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", field]


async def test_any_thirteen_digits_are_an_isbn(client: httpx.AsyncClient, login: Login) -> None:
    assert (await make(client, await login("ann"), isbn="1234567890123"))["id"] == 1


@pytest.mark.parametrize(
    ("author", "found"), [("austen", [1, 3]), ("JANE A", [1, 3]), ("%", []), ("", [1, 2, 3])]
)
async def test_the_author_is_found_by_a_part_of_the_name(
    client: httpx.AsyncClient, login: Login, author: str, found: list[int]
) -> None:
    headers = await login("ann")
    for number, name in enumerate(("Jane Austen", "Mary Shelley", "Jane Austen")):
        await make(client, headers, author=name, isbn=f"978000000000{number}")
    page = (await client.get("/api/v1/books", params={"author": author})).json()
    assert [book["id"] for book in page["books"]] == found
    assert page["total"] == len(found)
    beyond = (await client.get("/api/v1/books", params={"author": author, "skip": 9})).json()
    assert (beyond["books"], beyond["total"]) == ([], len(found))


@pytest.mark.parametrize("name", ["ΟΔΟΣ", "İpek"])
async def test_an_author_is_found_by_the_very_name(
    client: httpx.AsyncClient, login: Login, name: str
) -> None:
    made = await make(client, await login("ann"), author=name)
    page = (await client.get("/api/v1/books", params={"author": name})).json()
    assert (page["books"], page["total"]) == ([made], 1)


async def test_an_owner_changes_parts_and_deletes(client: httpx.AsyncClient, login: Login) -> None:
    headers = await login("ann")
    made = await make(client, headers)
    path = f"/api/v1/books/{made['id']}"
    changed = await client.put(path, json={"price": "8.25"}, headers=headers)
    assert changed.status_code == 200
    assert changed.json() == {
        **made,
        "price": "8.25",
        "updated_at": changed.json()["updated_at"],
    }
    assert (await client.put(path, json={}, headers=headers)).json() == changed.json()
    assert (await client.put(path, json={"title": None}, headers=headers)).status_code == 422
    assert (await client.delete(path, headers=headers)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert (await client.put(path, json={}, headers=headers)).status_code == 404


@pytest.mark.parametrize("role", ["user", "moderator", "super_admin"])
async def test_a_book_is_its_owners_alone(
    client: httpx.AsyncClient, login: Login, role: str
) -> None:
    path = f"/api/v1/books/{(await make(client, await login('ann')))['id']}"
    stranger = await login("bob", role=role)
    for answer in (
        await client.put(path, json={"price": 1}, headers=stranger),
        await client.delete(path, headers=stranger),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_owner")
    assert (await client.get(path)).json()["price"] == EMMA["price"]


async def test_a_second_read_comes_from_the_cache_and_says_304(
    client: httpx.AsyncClient, login: Login
) -> None:
    headers = await login("ann")
    path = f"/api/v1/books/{(await make(client, headers))['id']}"
    first = await client.get(path)
    again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    await client.put(path, json={"title": "Persuasion"}, headers=headers)
    assert (await client.get(path)).json()["title"] == "Persuasion"


async def test_writing_needs_the_scope(client: httpx.AsyncClient, login: Login) -> None:
    reader = await login("ann", scope="items:read")
    for answer in (
        await client.post("/api/v1/books", json=EMMA, headers=reader),
        await client.put("/api/v1/books/1", json={}, headers=reader),
        await client.delete("/api/v1/books/1", headers=reader),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
