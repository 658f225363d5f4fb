"""HEAD: whatever can be read answers it as GET, without the body and without the work of one."""

import http.client
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from app import metrics
from app.access import anyone
from app.routing import Service, router_of
from app.settings import Settings
from tests.app.conftest import Login, StartApp
from tests.app.live import bearer, running_worker
from tests.app.stage import CALLERS, Operation, Stage, stage_on
from tests.app.test_access import ALLOWED
from tests.app.test_files import FILES, logged_in, upload
from tests.services import ROOT, PostgreSQL, RedisServer

EXPORT = "/api/v1/items/export"
READS = [operation for operation in ALLOWED if operation[0] == "GET"]
ADDRESSES = {path for _, path in ALLOWED}
ITEM = {"title": "Lamp", "price": "9.99"}


@pytest.fixture(scope="module")
async def whole_stage(
    postgresql: PostgreSQL, redis_server: RedisServer, settings_with: Callable[..., Settings]
) -> AsyncIterator[Stage]:
    """One instance for the tests that change nothing; others may empty its tables meanwhile."""
    async with stage_on(postgresql, redis_server, settings_with()) as ready:
        yield ready


@pytest.fixture
async def stage(whole_stage: Stage) -> Stage:
    """The instance as it was in the beginning."""
    await whole_stage.set_back()
    return whole_stage


def told(answer: httpx.Response) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers of an answer, without what is different each time."""
    names = {"x-request-id"}
    if answer.request.url.path == "/metrics":
        # The numbers go on meanwhile.
        names.add("content-length")
    return answer.status_code, [
        pair for pair in answer.headers.multi_items() if pair[0] not in names
    ]


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_head_is_that_of_the_answer_to_get(stage: Stage, caller: str) -> None:
    seen = set()
    for operation in READS:
        whole = await stage.call(operation, caller)
        head = await stage.call(("HEAD", operation[1]), caller)
        assert told(head) == told(whole), operation
        assert head.content == b""
        seen.add(head.status_code)
    assert {200} <= seen <= {200, 401, 403}


async def test_an_address_says_all_methods_that_it_knows(stage: Stage) -> None:
    for path in sorted(ADDRESSES):
        # What stands there may also be read as the id of another address.
        known = {
            method
            for method, template in ALLOWED
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        }
        operation: Operation = ("BREW", path)
        refused = await stage.call(operation, CALLERS[-1])
        assert refused.status_code == 405, path
        expected = known | {"HEAD"} if "GET" in known else known
        assert refused.headers["allow"] == ", ".join(sorted(expected)), path
        head = await stage.call(("HEAD", path), CALLERS[-1])
        assert (head.status_code == 405) == ("GET" not in known), path
    unknown = await stage.client.head("/api/v1/nothing")
    assert told(unknown) == told(await stage.client.get("/api/v1/nothing"))
    assert unknown.status_code == 404


async def test_what_the_client_has_is_told(client: httpx.AsyncClient, login: Login) -> None:
    made = await client.post("/api/v1/items", json=ITEM, headers=await login("ann"))
    path, tag = f"/api/v1/items/{made.json()['id']}", made.headers["etag"]
    head = await client.head(path)
    assert (head.status_code, head.headers["etag"]) == (200, tag)
    assert head.headers["content-length"] == str(len((await client.get(path)).content))
    known = await client.head(path, headers={"If-None-Match": tag})
    assert (known.status_code, known.headers["etag"]) == (304, tag)
    assert (await client.head("/api/v1/items/999")).status_code == 404
    assert (await client.head("/api/v1/items?limit=0")).status_code == 422


async def fails(*_: object, **__: object) -> None:
    raise AssertionError


async def test_nothing_of_a_file_is_read(
    start_app: StartApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files").mkdir()
    client = await logged_in(
        await start_app(file_folder=tmp_path / "files", downloads_per_worker=1)
    )
    path = f"{FILES}/{(await upload(client)).json()['id']}"
    whole = await client.get(path)
    resources = client.application.state.resources  # type: ignore[attr-defined]
    monkeypatch.setattr(resources.files, "read", fails)
    async with resources.transfers.downloading():
        head = await client.head(path)
    assert told(head) == told(whole)
    # Parts are those of what is sent (RFC 9110, section 14.2).
    assert told(await client.head(path, headers={"Range": "bytes=0-1"})) == told(whole)
    for tag in (whole.headers["etag"], "*"):
        assert (await client.head(path, headers={"If-None-Match": tag})).status_code == 304


async def test_nginx_is_told_where_a_file_is(start_app: StartApp, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    client = await logged_in(
        await start_app(file_folder=tmp_path / "files", file_redirect="/.files/")
    )
    path = f"{FILES}/{(await upload(client)).json()['id']}"
    head = await client.head(path)
    assert told(head) == told(await client.get(path))
    assert head.headers["x-accel-redirect"].startswith("/.files/")


async def test_nothing_of_an_export_is_read(
    start_app: StartApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await logged_in(await start_app(exports_per_account=1))
    whole = await client.get(EXPORT)
    monkeypatch.setattr("app.items.repository.list_following", fails)
    resources = client.application.state.resources  # type: ignore[attr-defined]
    async with resources.transfers.exporting(1):
        head = await client.head(EXPORT)
    assert told(head) == told(whole)
    del client.headers["Authorization"]
    assert (await client.head(EXPORT)).status_code == 401


def test_whatever_streams_does_so_in_the_way_that_knows_of_heads() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "app").rglob("*.py")
        if re.search(r"\b(Streaming|File|EventSource)Response\b", path.read_text())
    }
    assert found == {"app/streams.py"}


async def test_it_is_counted_and_limited_with_get_and_written_down_as_it_is(
    start_app: StartApp, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await start_app(limit_default="3/minute", limit_search="2/minute")
    for name in ("get", "head", "head"):
        assert (await client.request(name.upper(), "/api/v1/books")).status_code == 200
    for name in ("HEAD", "GET"):
        refused = await client.request(name, "/api/v1/books")
        assert (refused.status_code, refused.headers["x-ratelimit-limit"]) == (429, "3")
    for status in (200, 200, 429):
        assert (await client.head("/api/v1/items?search=x")).status_code == status
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    heads = [one for one in lines if one.get("http_method") == "HEAD"]
    assert [one["http_route"] for one in heads] == ["/api/v1/books"] * 3 + ["/api/v1/items"] * 3
    text = metrics.exposition().decode()
    assert 'http_requests_total{method="HEAD",route="/api/v1/books",status="200"}' in text


async def test_it_changes_nothing_of_the_documentation_and_pages_may_ask_so(
    start_app: StartApp,
) -> None:
    client = await start_app(cors_origins=["https://front.example"])
    document: dict[str, Any] = client.application.openapi()  # type: ignore[attr-defined]
    assert {method for path in document["paths"].values() for method in path} == {
        "delete",
        "get",
        "patch",
        "post",
        "put",
    }
    asked = {"Origin": "https://front.example", "Access-Control-Request-Method": "HEAD"}
    assert (await client.options("/api/v1/items", headers=asked)).status_code == 200


async def test_within_another_router_the_framework_keeps_its_way() -> None:
    async def refuse() -> None:
        raise AssertionError

    router = router_of("/things", "things")
    router.add_api_route("", refuse, dependencies=[anyone()])
    outer = APIRouter(prefix="/outer", dependencies=[])
    outer.include_router(router)
    application = Service()
    application.include_router(outer)
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert (await client.head("/outer/things")).status_code == 405


async def test_a_server_sends_no_body_and_the_connection_goes_on(
    empty: None, database_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    stores: dict[str, Any] = {"database_url": database_url, "cache_url": redis_server.url}
    with running_worker(tmp_path / "served", **stores) as worker:
        session = await worker.session("ann")
        async with worker.client() as client:
            for _ in range(3):
                made = await client.post("/api/v1/items", json=ITEM, headers=bearer(session))
                assert made.status_code == 201
        connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=20)
        for path in ("/health", "/api/v1/items", "/api/v1/items/1", EXPORT, "/nothing"):
            answers = {}
            for method in ("HEAD", "GET"):
                connection.request(method, path, headers=bearer(session))
                answer = connection.getresponse()
                answers[method] = answer.status, answer.getheader("Content-Length"), answer.read()
            status, length, body = answers["GET"]
            assert body
            assert answers["HEAD"] == (status, length, b"")
        connection.close()
