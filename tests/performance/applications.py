"""What is measured: the service with one endpoint more, and the same two queries without it."""

import asyncio
import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import asyncpg  # type: ignore[import-untyped]
import orjson
from fastapi import FastAPI, Request, Response
from starlette.applications import Starlette
from starlette.routing import Route

import app.identity.repository as identities
import app.items.endpoints as items
import app.items.repository as pages
from app import log, middleware
from app.access import require_scopes
from app.accounts import Identity
from app.conditional import answer
from app.dependencies import WorkerResources
from app.entities import Entity
from app.items import service
from app.journal import JournalSocket
from app.main import create_app
from app.routing import Limit, Skip
from app.settings import Settings, load_settings
from tests.performance.bare_catalogue import BareCatalogue

PAGE = "/api/v1/items/for/me"
PAGE_SIZE = 20
# What the service's own settings say.
CONNECTIONS = 16


async def read_page(
    request: Request,
    identity: Annotated[Identity, require_scopes("items:read")],
    resources: WorkerResources,
    skip: Skip = 0,
    limit: Limit = PAGE_SIZE,
) -> Response:
    """Return the caller's name and one page of the items, as the service's own list does."""
    page = service.Page(limit, skip)
    rows, total = await pages.list_items(resources.database, skip, limit, None)
    content = service._page(rows, page, total, more=skip + len(rows) < total)
    return answer(request, Entity.of({"user": identity.account.username, **content}))


def harbour() -> FastAPI:
    """Make the service, with its log going to the sink of the benchmark."""
    items.router.get(PAGE.removeprefix("/api/v1/items"), response_model=None)(read_page)
    application = create_app()
    log.configure(load_settings(Settings), JournalSocket(Path(os.environ["BENCH_JOURNAL"])))
    return application


def lean() -> FastAPI:
    """Make the service without log lines and numbers; its environment takes the limits away."""
    middleware._record = lambda *_: None
    return harbour()


class Bare:
    """An ASGI application of the service's two statements on the driver and the same JSON."""

    def __init__(self, *, resets: bool = True) -> None:
        self._account = identities._BY_SESSION.text
        self._page = pages._ALL.counted.page.text
        self._session_id, self._user_id = json.loads(os.environ["BENCH_CALLER"])
        # As the driver's documentation shows it: a connection that is given back is reset.
        self._options: dict[str, Any] = {} if resets else {"reset": _leave}
        self._pool: asyncpg.Pool

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        async with self._pool.acquire() as connection:
            now = datetime.now(UTC)
            user = await connection.fetchrow(self._account, self._session_id, self._user_id, now)
            rows = await connection.fetch(self._page, PAGE_SIZE, 0)
        view = [{**row, "price": str(row["price"])} for row in rows]
        total = view[0]["total"]
        for one in view:
            del one["total"]
            one["owner"] = {"id": one["owner_id"], "username": one.pop("username")}
        page = {"user": user["username"], "items": view, "total": total}
        page |= {"skip": 0, "limit": PAGE_SIZE, "next_cursor": view[-1]["id"]}
        body = orjson.dumps(page, option=orjson.OPT_UTC_Z)
        length = str(len(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        self._pool = await asyncpg.create_pool(
            host=os.environ["BENCH_DATABASE"],
            user="harbour",
            database="harbour",
            server_settings={"jit": "off"},
            max_size=CONNECTIONS,
            **self._options,
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._pool.close()
        await send({"type": "lifespan.shutdown.complete"})


async def _leave(connection: asyncpg.Connection) -> None:
    """Leave a connection as it is given back."""
    del connection


def bare() -> Bare:
    """Make it, with the driver's pool as it is."""
    return Bare()


def kept() -> Bare:
    """Make it, with connections that are not reset, as the service reads."""
    return Bare(resets=False)


async def keep(request: Request) -> Response:
    """Write the body to a file, which is safe on the disk when it has its name."""
    folder, name = Path(os.environ["APP_FILE_FOLDER"]), secrets.token_hex(16)
    half = folder / f"half-{name}"
    with half.open("wb", buffering=0) as file:
        async for chunk in request.stream():
            file.write(chunk)
        await asyncio.to_thread(os.fsync, file.fileno())
    half.rename(folder / name)
    await asyncio.to_thread(_sync, folder)
    return Response(name, 201)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def raw() -> Starlette:
    """Make a service that takes bodies as files and knows nothing of forms or accounts."""
    return Starlette(routes=[Route("/api/v1/files/upload", keep, methods=["POST"])])


def bare_catalogue() -> BareCatalogue:
    """Make the catalogue without the service."""
    return BareCatalogue(PAGE_SIZE, CONNECTIONS)
