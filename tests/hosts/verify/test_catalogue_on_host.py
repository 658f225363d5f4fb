"""The catalogue through Nginx and TLS: tags that Nginx changes, and an answer without a length."""

import json
import secrets
from typing import Any

import httpx
import pytest

# Long enough for Nginx to compress it.
TEXT = "It gives light. " * 60


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def an_item() -> dict[str, Any]:
    return {"title": f"Lamp {secrets.token_hex(4)}", "description": TEXT, "price": "19.99"}


def a_book() -> dict[str, Any]:
    isbn = f"{secrets.randbelow(10**13):013}"
    return {"title": "Emma", "author": "Jane Austen", "isbn": isbn, "price": "7.50"}


@pytest.mark.parametrize("coding", ["gzip", "identity"])
@pytest.mark.parametrize(("place", "method"), [("items", "PATCH"), ("books", "PUT")])
def test_a_client_can_send_back_the_tag_that_it_was_given(
    client: httpx.Client, token: str, place: str, method: str, coding: str
) -> None:
    thing = {**(an_item() if place == "items" else a_book()), "description": TEXT}
    made = client.post(f"/api/v1/{place}", json=thing, headers=bearer(token))
    assert made.status_code == 201, made.text
    path = f"/api/v1/{place}/{made.json()['id']}"
    headers = {**bearer(token), "Accept-Encoding": coding}
    # Once from the database and once from the cache.
    for _ in range(2):
        read = client.get(path, headers=headers)
        assert read.json() == made.json()
        tag = read.headers["etag"]
        assert ("content-encoding" in read.headers) == (coding == "gzip")
        # Nginx makes the tag of an answer weak that it compresses: that is what is tested here.
        assert tag.startswith("W/") == (coding == "gzip")
        again = client.get(path, headers={**headers, "If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
    first = client.request(
        method, path, json={"price": "1.00"}, headers={**headers, "If-Match": tag}
    )
    assert first.status_code == 200, first.text
    late = client.request(
        method, path, json={"price": "2.00"}, headers={**headers, "If-Match": tag}
    )
    assert (late.status_code, late.json()["error"]["code"]) == (412, "precondition_failed")
    assert client.get(path, headers=headers).json()["price"] == "1.00"
    newest = {**headers, "If-Match": first.headers["etag"]}
    assert client.delete(path, headers=newest).status_code == 204
    assert client.get(path).status_code == 404


def test_an_export_has_every_item_on_a_line(client: httpx.Client, token: str) -> None:
    made = [
        client.post("/api/v1/items", json=an_item(), headers=bearer(token)).json() for _ in range(3)
    ]
    answer = client.get("/api/v1/items/export", headers=bearer(token))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert "content-length" not in answer.headers
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [item for item in lines if item["id"] >= made[0]["id"]] == made
    assert client.get("/api/v1/items/export").status_code == 401


def test_a_books_author_is_found_and_its_isbn_is_its_own(client: httpx.Client, token: str) -> None:
    author = f"Jane {secrets.token_hex(4)}"
    book = {**a_book(), "author": author}
    made = client.post("/api/v1/books", json=book, headers=bearer(token))
    assert made.status_code == 201, made.text
    found = client.get("/api/v1/books", params={"author": author.upper()}).json()
    assert found["books"] == [made.json()]
    twice = client.post("/api/v1/books", json=book, headers=bearer(token))
    assert (twice.status_code, twice.json()["error"]["code"]) == (409, "isbn_taken")
