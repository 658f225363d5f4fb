"""Every failure has one shape, and tells nothing of the inside."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from starlette.responses import StreamingResponse

from app.error_handlers import STATUS_OF_ERROR
from app.errors import ServiceError
from tests.app.conftest import Login, RunSql, StartApp, log_in

REQUEST_ID = "request-0123456789"


def check_shape(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error", "detail"}
    assert set(body["error"]) == {"code", "message", "request_id"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    assert body["error"]["request_id"] == answer.headers["x-request-id"]
    assert isinstance(body["detail"], str | list)
    assert answer.headers["x-content-type-options"] == "nosniff"


def all_errors(kind: type[ServiceError]) -> set[type[ServiceError]]:
    return {kind}.union(*(all_errors(child) for child in kind.__subclasses__()))


def test_every_error_of_the_domain_has_a_status() -> None:
    for kind in all_errors(ServiceError) - {ServiceError}:
        assert issubclass(kind, tuple(STATUS_OF_ERROR)), kind


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/openapi.json", 404, "not_found"),
        ("PATCH", "/health", 405, "method_not_allowed"),
        ("DELETE", "/api/v1/items", 405, "method_not_allowed"),
        ("GET", "/api/v1/users/me", 401, "not_authenticated"),
        ("GET", "/api/v1/items/7", 404, "item_not_found"),
        ("GET", "/api/v1/items?limit=0", 422, "validation_error"),
        ("POST", "/api/v1/users/register", 422, "validation_error"),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await client.request(method, path, headers={"X-Request-ID": REQUEST_ID})
    check_shape(answer, status, code)
    assert answer.json()["error"]["request_id"] == REQUEST_ID
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 422, "validation_error"),
        (b"[]", 422, "validation_error"),
        (b"\xff\xfe", 422, "validation_error"),
        (b'{"username": NaN}', 422, "validation_error"),
    ],
)
async def test_a_body_that_is_no_json_object(
    client: httpx.AsyncClient, body: bytes, status: int, code: str
) -> None:
    answer = await client.post(
        "/api/v1/users/register", content=body, headers={"Content-Type": "application/json"}
    )
    check_shape(answer, status, code)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large(start_app: StartApp, announced: bool) -> None:
    client = await start_app(max_body_size=1000)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    answer = await client.post(
        "/api/v1/users/register",
        content=b"x" * 1001 if announced else chunks(),
        headers={"Content-Type": "application/json"},
    )
    check_shape(answer, 413, "payload_too_large")


@pytest.mark.parametrize("path", ["/api/v1/auth/token", "/api/v1/auth/login"])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_form_that_is_too_large(
    client: httpx.AsyncClient, path: str, announced: bool
) -> None:
    form = b"username=ann&password=" + b"x" * 8192

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(form), 1000):
            yield form[start : start + 1000]

    answer = await client.post(
        path,
        content=form if announced else chunks(),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    check_shape(answer, 413, "payload_too_large")


async def test_a_host_that_is_not_ours(client: httpx.AsyncClient) -> None:
    for host in ("evil.example", "testserver.evil.example", "testserver:80:80", ""):
        answer = await client.get("/health", headers={"Host": host})
        check_shape(answer, 400, "invalid_host")
    for host in ("testserver", "TESTSERVER", "testserver:8443"):
        assert (await client.get("/health", headers={"Host": host})).status_code == 200


async def test_an_unforeseen_error(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    application: FastAPI = client.application  # type: ignore[attr-defined]

    @application.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret inside")

    answer = await client.get("/broken", headers={"X-Request-ID": REQUEST_ID})
    check_shape(answer, 500, "internal_error")
    assert "secret" not in answer.text
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    failure = next(line for line in lines if line["event"] == "request.failed")
    assert failure["request_id"] == REQUEST_ID
    assert "RuntimeError: the secret inside" in failure["exception"]
    access = next(line for line in lines if line["event"] == "http.request")
    assert (access["level"], access["http_status"]) == ("error", 500)


async def test_an_error_after_the_answer_has_begun_ends_the_connection(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    application: FastAPI = client.application  # type: ignore[attr-defined]

    async def parts() -> AsyncIterator[bytes]:
        yield b"begun"
        raise RuntimeError("torn")

    @application.get("/torn")
    async def torn() -> StreamingResponse:
        return StreamingResponse(parts())

    with pytest.raises(RuntimeError, match="torn"):
        await client.get("/torn")
    assert "request.failed" in capsys.readouterr().err


async def test_an_exception_of_the_framework_keeps_its_words(client: httpx.AsyncClient) -> None:
    application: FastAPI = client.application  # type: ignore[attr-defined]

    @application.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "Short and stout", {"X-Handle": "yes"})

    answer = await client.get("/teapot")
    check_shape(answer, 418, "im_a_teapot")
    assert answer.json()["detail"] == "Short and stout"
    assert answer.headers["x-handle"] == "yes"


async def test_a_database_that_is_not_there_is_a_503(start_app: StartApp) -> None:
    client = await start_app(database_url="postgresql+asyncpg://x@/x?host=/nonexistent")
    for answer in (await client.get("/api/v1/items"), await log_in(client, "ann")):
        check_shape(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "2"


async def test_a_pool_without_a_free_connection_is_a_503(start_app: StartApp) -> None:
    client = await start_app(database_read_pool_size=1, database_pool_timeout=0.05)
    database = client.application.state.resources.database  # type: ignore[attr-defined]
    async with database.reading():
        check_shape(await client.get("/api/v1/items"), 503, "unavailable")
    assert (await client.get("/api/v1/items")).status_code == 200


END_CONNECTIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE usename = 'harbour' AND pid <> pg_backend_pid()"
)


async def test_connections_that_were_closed_while_idle_are_replaced(
    client: httpx.AsyncClient, sql: RunSql, login: Login
) -> None:
    headers = await login("ann")
    await asyncio.gather(*(client.get("/api/v1/items") for _ in range(5)))
    sql(END_CONNECTIONS)
    # The kernel tells the driver; the tests run in the loop that has to hear it.
    await asyncio.sleep(0.1)
    answers = await asyncio.gather(*(client.get("/api/v1/items") for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5
    sql(END_CONNECTIONS)
    await asyncio.sleep(0.1)
    item = {"title": "Anchor", "price": "9.99", "quantity": 1}
    created = await client.post("/api/v1/items", json=item, headers=headers)
    assert created.status_code == 201


async def test_a_connection_that_is_lost_in_use_is_a_503(
    client: httpx.AsyncClient, sql: RunSql
) -> None:
    assert (await client.get("/api/v1/items")).status_code == 200
    lock = "BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(1)"
    locking = asyncio.create_task(asyncio.to_thread(sql, lock))
    asked = asyncio.create_task(client.get("/api/v1/items"))
    waiting = "FROM pg_stat_activity WHERE usename = 'harbour' AND wait_event_type = 'Lock'"
    for _ in range(200):
        if sql(f"SELECT pg_terminate_backend(pid) {waiting}"):
            break
        if asked.done():
            asked = asyncio.create_task(client.get("/api/v1/items"))
        await asyncio.sleep(0.02)
    check_shape(await asked, 503, "unavailable")
    await locking
    assert (await client.get("/api/v1/items")).status_code == 200


async def test_a_statement_that_takes_too_long_is_a_503(start_app: StartApp, sql: RunSql) -> None:
    client = await start_app(database_statement_timeout=0.1)
    lock = "BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(1)"
    locking = asyncio.create_task(asyncio.to_thread(sql, lock))
    for _ in range(200):
        if sql("SELECT 1 FROM pg_locks WHERE relation = 'items'::regclass AND granted"):
            break
        await asyncio.sleep(0.02)
    check_shape(await client.get("/api/v1/items"), 503, "unavailable")
    await locking
    assert (await client.get("/api/v1/items")).status_code == 200
