"""What surrounds every request."""

import json
import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from app import metrics
from app.headers import SECURITY_HEADERS
from tests.app.conftest import Login, StartApp

PATHS = ("/health", "/api/v1/items", "/nothing")


@pytest.mark.parametrize("path", PATHS)
async def test_a_valid_request_id_comes_back(client: httpx.AsyncClient, path: str) -> None:
    for given in ("abcdefgh", "A-b_c.0123456789", "x" * 128):
        answer = await client.get(path, headers={"X-Request-ID": given})
        assert answer.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize(
    "given", ["short", "x" * 129, "with space", "a;b;c;d;e", "ümlaut-1234", ""]
)
async def test_another_request_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/health", headers=[(b"X-Request-ID", given.encode())])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_each_request_gets_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/health")).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize("path", PATHS)
async def test_security_headers_are_on_every_answer_once(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.get_list(name) == [value]
    assert "strict-transport-security" not in answer.headers


async def test_the_access_line_has_its_fields(
    client: httpx.AsyncClient, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = {**await login("ann"), "X-Request-ID": "request-id-of-line"}
    capsys.readouterr()
    await client.patch("/api/v1/items/12?secret=x", headers=headers, json={"quantity": 1})
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    lines = [line for line in lines if line.get("logger") != "httpx"]
    access = [line for line in lines if line["event"] == "http.request"]
    assert len(access) == 1
    assert access[0]["http_method"] == "PATCH"
    assert access[0]["http_route"] == "/api/v1/items/{item_id}"
    assert access[0]["http_status"] == 404
    assert access[0]["duration_ms"] > 0
    assert access[0]["user_id"] == 1
    assert access[0]["request_id"] == "request-id-of-line"
    assert access[0]["client_address"] == "192.0.2.7"
    assert access[0]["level"] == "info"
    assert access[0]["message"].startswith("PATCH /api/v1/items/12 404 ")
    assert "secret" not in json.dumps(lines)


async def test_a_path_cannot_forge_a_line(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await client.get("/x%0AMESSAGE=forged")
    assert "GET /x%0AMESSAGE=forged 404" in capsys.readouterr().err


async def test_requests_are_counted_by_template(client: httpx.AsyncClient) -> None:
    def count(route: str, status: str) -> float:
        return metrics.REQUESTS.labels("GET", route, status)._value.get()  # type: ignore[no-any-return]

    before = count("/api/v1/items/{item_id}", "404"), count("unmatched", "404")
    await client.get("/api/v1/items/1")
    await client.get("/api/v1/items/2")
    await client.get("/nothing")
    after = count("/api/v1/items/{item_id}", "404"), count("unmatched", "404")
    assert (after[0] - before[0], after[1] - before[1]) == (2, 1)


async def test_an_unknown_method_makes_no_series_of_its_own(client: httpx.AsyncClient) -> None:
    await client.request("BREW", "/health")
    text = (await client.get("/metrics")).text
    assert "BREW" not in text
    assert 'method="OTHER"' in text


async def test_cors_knows_only_the_listed_origins(start_app: StartApp) -> None:
    client = await start_app(cors_origins=["https://front.example"])
    ask = {"Access-Control-Request-Method": "POST"}
    good = await client.options("/api/v1/items", headers={"Origin": "https://front.example", **ask})
    assert good.headers["access-control-allow-origin"] == "https://front.example"
    answer = await client.get("/health", headers={"Origin": "https://front.example"})
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    # What a page needs of the answers to what it made, and to what it downloads.
    assert {"Location", "Accept-Ranges", "Content-Range", "Content-Disposition"} <= set(exposed)
    # And to know when to ask again.
    assert {f"X-RateLimit-{name}" for name in ("Limit", "Remaining", "Reset")} <= set(exposed)
    bad = await client.options("/api/v1/items", headers={"Origin": "https://evil.example", **ask})
    assert "access-control-allow-origin" not in bad.headers
    read = await client.get("/health", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in read.headers


async def test_pages_of_listed_origins_read_a_500(
    start_app: StartApp, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start_app(cors_origins=["https://front.example"], log_output="json")
    application: FastAPI = client.application  # type: ignore[attr-defined]
    reported: list[Exception] = []
    reports = application.state.resources.error_reports
    monkeypatch.setattr(type(reports), "report", lambda _, error, **__: reported.append(error))

    @application.get("/broken")
    async def broken() -> None:
        raise RuntimeError

    def counted() -> float:
        return metrics.REQUESTS.labels("GET", "/broken", "500")._value.get()  # type: ignore[no-any-return]

    capsys.readouterr()
    before = counted()
    answer = await client.get("/broken", headers={"Origin": "https://front.example"})
    assert answer.status_code == 500
    assert answer.headers.get_list("access-control-allow-origin") == ["https://front.example"]
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"].split(", ")
    assert answer.headers["vary"] == "Origin"
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
    lines = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    told = [line for line in lines if line in {"request.failed", "http.request"}]
    assert told == ["request.failed", "http.request"]
    assert (counted() - before, len(reported)) == (1, 1)
    evil = await client.get("/broken", headers={"Origin": "https://evil.example"})
    assert evil.status_code == 500
    assert "access-control-allow-origin" not in evil.headers


async def test_without_origins_there_is_no_cors(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health", headers={"Origin": "https://front.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_development_serves_its_documentation(
    start_app: StartApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = await start_app(environment="development")
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "content-security-policy" not in page.headers
    schema = (await client.get("/openapi.json")).json()
    assert "/api/v1/items/{item_id}" in schema["paths"]
    # A client that is made from the document must not send a key where only a session will do.
    by = [next(iter(one)) for one in schema["paths"]["/api/v1/api-keys"]["get"]["security"]]
    assert by == ["bearer", "cookie"]


async def test_a_websocket_of_another_host_is_closed(client: httpx.AsyncClient) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/ws", "headers": [(b"host", b"evil.example")]}
    await client.application(scope, receive, send)  # type: ignore[attr-defined]
    assert sent == [{"type": "websocket.close", "code": 1008}]
