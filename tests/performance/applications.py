"""What is measured: the service with one endpoint more, and the same two queries without it."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import asyncpg  # type: ignore[import-untyped]
import orjson
from fastapi import FastAPI, Request, Response
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.asyncpg import dialect

import app.identity.repository as identities
import app.items.endpoints as items
import app.items.repository as pages
from app import log
from app.access import require_scopes
from app.accounts import Identity
from app.dependencies import WorkerResources
from app.items import service
from app.journal import JournalSocket
from app.main import create_app
from app.routing import Limit, Skip
from app.settings import Settings, load_settings

PAGE = "/api/v1/items/for/me"
PAGE_SIZE = 20


async def read_page(
    request: Request,
    identity: Annotated[Identity, require_scopes("items:read")],
    resources: WorkerResources,
    skip: Skip = 0,
    limit: Limit = PAGE_SIZE,
) -> Response:
    """Return the caller's name and one page of the items, as the service's own list does."""
    found, total = await service.list_items(resources.database, skip, limit, None)
    page = {"items": [items._view(item) for item in found], "total": total}
    return items._cached(request, {"user": identity.account.username, **page})


def harbour() -> FastAPI:
    """Make the service, with its log going to the sink of the benchmark."""
    items.router.get(PAGE.removeprefix("/api/v1/items"), response_model=None)(read_page)
    application = create_app()
    log.configure(load_settings(Settings), JournalSocket(Path(os.environ["BENCH_JOURNAL"])))
    return application


def statement(query: Select[*tuple[Any, ...]]) -> str:
    """The text of one of the service's statements, with the driver's numbered parameters."""
    return str(query.compile(dialect=dialect()))  # type: ignore[no-untyped-call]


class Bare:
    """An ASGI application of the service's two statements on the driver and the same JSON."""

    def __init__(self) -> None:
        self._account = statement(identities._BY_SESSION)
        self._page = statement(pages._ALL.page)
        self._session_id, self._user_id = json.loads(os.environ["BENCH_CALLER"])
        self._free: list[asyncpg.Connection] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        # No pool: the driver's own makes the server reset each connection that is given back.
        connection = self._free.pop() if self._free else await self._connect()
        now = datetime.now(UTC)
        user = await connection.fetchrow(self._account, self._session_id, self._user_id, now)
        rows = await connection.fetch(self._page, PAGE_SIZE, 0)
        self._free.append(connection)
        view = [{**row, "price": str(row["price"])} for row in rows]
        total = view[0]["total"]
        for one in view:
            del one["total"]
        page = {"user": user["username"], "items": view, "total": total}
        body = orjson.dumps(page, option=orjson.OPT_UTC_Z)
        length = str(len(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            host=os.environ["BENCH_DATABASE"],
            user="harbour",
            database="harbour",
            server_settings={"jit": "off"},
        )

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for connection in self._free:
            await connection.close()
        await send({"type": "lifespan.shutdown.complete"})


def bare() -> Bare:
    """Make it."""
    return Bare()
