"""The catalogue as a handler that asks the database and the cache the same, and does no more."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import orjson
import redis.asyncio

import app.identity.repository as identities
import app.items.repository as items
from app.entities import Entity

_PREFIX = "/api/v1/items"
_SECONDS = 60
_NAMES = ("id", "owner_id", "title", "description", "price", "quantity", "created_at", "updated_at")
_INSERT = (
    "INSERT INTO items (owner_id, title, description, price, quantity) "
    f"VALUES ($1, $2, $3, $4, $5) RETURNING {', '.join(_NAMES)}"
)
_Answer = tuple[int, bytes, str]


class BareCatalogue:
    """An ASGI application on the driver, its pool as it is documented, and the cache's client.

    Args:
        page_size: of its lists.
        connections: to the database.
    """

    def __init__(self, page_size: int, connections: int) -> None:
        self._page_size = page_size
        self._connections = connections
        self._caller = json.loads(os.environ["BENCH_CALLER"])
        self._cache = redis.asyncio.Redis.from_url(os.environ["APP_CACHE_URL"])
        self._pool: asyncpg.Pool

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        status, body, tag = await self._answer(scope, receive)
        headers = [(b"content-type", b"application/json"), (b"etag", f'"{tag}"'.encode())]
        if status != 304:
            # Not Modified has no body, and no length of one.
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Mapping[str, Any], receive: Any) -> _Answer:
        if scope["method"] == "POST":
            return await self._create(receive)
        item = scope["path"].removeprefix(_PREFIX).removeprefix("/")
        if item.isdecimal():
            return await self._read(int(item), dict(scope["headers"]).get(b"if-none-match"))
        _, _, cursor = scope["query_string"].decode().partition("cursor=")
        return await self._list(int(cursor) if cursor else None)

    async def _list(self, after: int | None) -> _Answer:
        async with self._pool.acquire() as connection:
            if after is None:
                rows = await connection.fetch(items._ALL.counted.page.text, self._page_size, 0)
            else:
                text = items._ALL.following.text
                rows = await connection.fetch(text, after, self._page_size + 1)
        views = [_view(row) for row in rows[: self._page_size]]
        content = {"items": views, "total": rows[0].get("total") if rows else 0}
        content |= {"skip": 0, "limit": self._page_size, "next_cursor": views[-1]["id"]}
        entity = Entity.of(content)
        return 200, entity.body, entity.tag

    async def _read(self, item: int, known: bytes | None) -> _Answer:
        key = f"bare:{item}"
        found: Any = await self._cache.get(key)
        if found is None:
            async with self._pool.acquire() as connection:
                row = await connection.fetchrow(items._FIND.text, item)
            entity = Entity.of(_view(row))
            await self._cache.set(key, entity.packed(), ex=_SECONDS)
        else:
            entity = Entity.unpacked(found)
        if known == f'"{entity.tag}"'.encode():
            return 304, b"", entity.tag
        return 200, entity.body, entity.tag

    async def _create(self, receive: Any) -> _Answer:
        item = orjson.loads((await receive())["body"])
        session_id, user_id = self._caller
        async with self._pool.acquire() as connection:
            now = datetime.now(UTC)
            user = await connection.fetchrow(identities._BY_SESSION.text, session_id, user_id, now)
        values = (item["title"], item.get("description", ""), Decimal(item["price"]), 0)
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_INSERT, user_id, *values)
        entity = Entity.of(_view({**row, "username": user["username"]}))
        return 201, entity.body, entity.tag

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        self._pool = await asyncpg.create_pool(
            host=os.environ["BENCH_DATABASE"],
            user="harbour",
            database="harbour",
            server_settings={"jit": "off"},
            max_size=self._connections,
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._pool.close()
        await self._cache.aclose()
        await send({"type": "lifespan.shutdown.complete"})


def _view(row: Mapping[str, Any]) -> dict[str, Any]:
    view = {name: row[name] for name in _NAMES}
    view["price"] = str(view["price"])
    view["owner"] = {"id": view["owner_id"], "username": row["username"]}
    return view
