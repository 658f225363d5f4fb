"""Bodies that name what is to change: what they leave out stays as it is, for every client."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import Login
from tests.app.stage import BOOK, ITEM

JSON = "application/json"


@pytest.fixture
def document(settings_with: Callable[..., Settings]) -> dict[str, Any]:
    """The OpenAPI document."""
    return create_app(settings_with()).openapi()


def parts(node: Any) -> Iterator[dict[str, Any]]:
    """Every object of a schema."""
    if isinstance(node, dict):
        yield node
    for below in node.values() if isinstance(node, dict) else node:
        if isinstance(below, dict | list):
            yield from parts(below)


def partial_bodies(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The bodies of changes in which nothing has to be there, by their names."""
    schemas = document["components"]["schemas"]
    found = {}
    for path in document["paths"].values():
        for method in path.keys() & {"put", "patch"}:
            content = path[method].get("requestBody", {}).get("content", {})
            for one in parts(content.get(JSON, {}).get("schema", {})):
                name = one.get("$ref", "").rpartition("/")[2]
                if name and "required" not in schemas[name]:
                    found[name] = schemas[name]
    return found


def test_the_document_names_no_value_for_what_is_left_out(document: dict[str, Any]) -> None:
    bodies = partial_bodies(document)
    assert set(bodies) == {"BookPatch", "ItemPatch", "ProfileChange"}
    for name, schema in bodies.items():
        assert [one for one in parts(schema) if "default" in one] == [], name


@pytest.mark.parametrize(
    ("method", "path", "whole"),
    [("PATCH", "/api/v1/items", ITEM), ("PUT", "/api/v1/books", BOOK)],
)
async def test_what_is_left_out_stays_as_it_is(
    client: httpx.AsyncClient, login: Login, method: str, path: str, whole: dict[str, Any]
) -> None:
    headers = await login("ann")
    made = (await client.post(path, json=whole, headers=headers)).json()
    address = f"{path}/{made['id']}"
    assert (await client.request(method, address, json={}, headers=headers)).json() == made
    for name, value in {**whole, "price": "3.00", "title": "Another"}.items():
        answer = await client.request(method, address, json={name: value}, headers=headers)
        made = {**made, name: value, "updated_at": answer.json()["updated_at"]}
        assert answer.json() == made
