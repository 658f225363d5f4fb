"""Who may call what: every operation by every kind of caller, and what the documentation says."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.types import Receive, Scope, Send

from app.access import declared
from app.main import create_app
from app.routing import Route, UndeclaredAccessError, router_of
from app.settings import Settings
from app.socket_routes import SocketRoute
from tests.app.conftest import PASSWORD, RunSql
from tests.app.stage import (
    BODIES,
    CALLERS,
    ITEM,
    KEYS,
    NOBODY,
    ROLES,
    SCOPES,
    SESSIONS,
    Operation,
    Stage,
    stage_on,
)
from tests.services import PostgreSQL, RedisServer

ANYONE = frozenset(CALLERS)
# A session or an API key.
CALLER = ANYONE - {NOBODY}
# What could take over an account takes a login: a key does not do.
SESSION = frozenset(SESSIONS.values())
MODERATORS = frozenset(kind[role] for kind in (SESSIONS, KEYS) for role in ROLES[1:])
ADMINS = frozenset(kind[role] for kind in (SESSIONS, KEYS) for role in ROLES[2:])
ADMIN_SESSIONS = ADMINS & SESSION

# By hand, not from the code: that is what makes it a test.
ALLOWED: dict[Operation, frozenset[str]] = {
    ("POST", "/api/v1/users/register"): ANYONE,
    ("GET", "/api/v1/users/me"): CALLER,
    ("PUT", "/api/v1/users/me"): CALLER,
    # The console of the host closes a super administrator.
    ("DELETE", "/api/v1/users/me"): SESSION - {SESSIONS["super_admin"]},
    ("POST", "/api/v1/users/verify-email"): ANYONE,
    ("POST", "/api/v1/users/verify-email/request"): SESSION,
    ("POST", "/api/v1/users/password-reset/request"): ANYONE,
    ("POST", "/api/v1/users/password-reset"): ANYONE,
    ("POST", "/api/v1/auth/token"): ANYONE,
    ("POST", "/api/v1/auth/login"): ANYONE,
    # The proof is the refresh token in the body.
    ("POST", "/api/v1/auth/refresh"): ANYONE,
    ("POST", "/api/v1/auth/logout"): ANYONE,
    ("POST", "/api/v1/auth/change-password"): SESSION,
    ("GET", "/api/v1/auth/sessions"): SESSION,
    ("DELETE", "/api/v1/auth/sessions/{session_id}"): SESSION,
    ("GET", "/api/v1/api-keys"): SESSION,
    ("POST", "/api/v1/api-keys"): SESSION,
    ("DELETE", "/api/v1/api-keys/{key_id}"): SESSION,
    ("POST", "/api/v1/api-keys/generate"): SESSION,
    ("DELETE", "/api/v1/api-keys/revoke"): SESSION,
    ("GET", "/api/v1/admin/users"): ADMINS,
    ("PUT", "/api/v1/admin/users/{user_id}/role"): ADMIN_SESSIONS,
    ("POST", "/api/v1/admin/users/{user_id}/deactivate"): ADMINS,
    ("POST", "/api/v1/admin/users/{user_id}/unlock"): ADMINS,
    ("DELETE", "/api/v1/admin/users/{user_id}/sessions"): ADMINS,
    ("GET", "/api/v1/admin/dashboard"): ADMINS,
    ("GET", "/api/v1/admin/audit"): ADMINS,
    ("GET", "/api/v1/items"): ANYONE,
    ("GET", "/api/v1/items/{item_id}"): ANYONE,
    ("POST", "/api/v1/items"): CALLER,
    # One's own; those of others are below.
    ("PUT", "/api/v1/items/{item_id}"): CALLER,
    ("PATCH", "/api/v1/items/{item_id}"): CALLER,
    ("DELETE", "/api/v1/items/{item_id}"): CALLER,
    ("GET", "/api/v1/items/export"): CALLER,
    ("GET", "/api/v1/books"): ANYONE,
    ("GET", "/api/v1/books/{book_id}"): ANYONE,
    ("POST", "/api/v1/books"): CALLER,
    ("PUT", "/api/v1/books/{book_id}"): CALLER,
    ("DELETE", "/api/v1/books/{book_id}"): CALLER,
    ("POST", "/api/v1/reports"): CALLER,
    # One's own; those of others are not there.
    ("GET", "/api/v1/tasks/{task_id}"): CALLER,
    # One's own; those of others cannot be seen.
    ("GET", "/api/v1/files"): CALLER,
    ("GET", "/api/v1/files/{file_id}"): CALLER,
    ("POST", "/api/v1/files/upload"): CALLER,
    ("POST", "/api/v1/files/upload-multiple"): CALLER,
    ("DELETE", "/api/v1/files/{file_id}"): CALLER,
    ("POST", "/api/v1/realtime/ticket"): SESSION,
    ("GET", "/health"): ANYONE,
    # Nginx keeps strangers away from these two.
    ("GET", "/health/ready"): ANYONE,
    ("GET", "/metrics"): ANYONE,
}
ON_OTHERS: dict[Operation, frozenset[str]] = {
    ("PUT", "/api/v1/items/{item_id}"): MODERATORS,
    ("PATCH", "/api/v1/items/{item_id}"): MODERATORS,
    ("DELETE", "/api/v1/items/{item_id}"): MODERATORS,
    # A book is its owner's alone.
    ("PUT", "/api/v1/books/{book_id}"): frozenset(),
    ("DELETE", "/api/v1/books/{book_id}"): frozenset(),
}
# What opens a WebSocket is its ticket, which only a session gets; tests/app/test_realtime.py
# shows that nothing else does.
TICKETS = {("WEBSOCKET", "/ws/{client_id}"): {"credential": "ticket"}}
# Only development has these.
DOCUMENTATION = {"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}


@pytest.fixture(scope="module")
async def whole_stage(
    postgresql: PostgreSQL, redis_server: RedisServer, settings_with: Callable[..., Settings]
) -> AsyncIterator[Stage]:
    """One instance for all tests here: logging in is what takes long."""
    async with stage_on(postgresql, redis_server, settings_with()) as stage:
        yield stage


@pytest.fixture
async def stage(whole_stage: Stage) -> Stage:
    """The instance as it was in the beginning."""
    await whole_stage.set_back()
    return whole_stage


@pytest.fixture
def application(settings_with: Callable[..., Settings]) -> FastAPI:
    """The application of production, which is not started."""
    return create_app(settings_with())


def operations_of(application: FastAPI) -> Iterator[tuple[Operation, RouteContext]]:
    for context in iter_route_contexts(application.routes):
        for method in sorted(context.methods or {""}):
            if not isinstance(context.original_route, SocketRoute):
                yield (method, str(context.path)), context


def sockets_of(application: FastAPI) -> dict[Operation, dict[str, str]]:
    """Return what each WebSocket needs; other classes of their routes count as operations."""
    return {
        ("WEBSOCKET", route.path): route.access
        for route in application.routes
        if isinstance(route, SocketRoute)
    }


def undeclared(application: FastAPI) -> list[Operation]:
    """Return what says nothing about access: other classes of routes cannot even say it."""
    return [
        operation
        for operation, context in operations_of(application)
        if not isinstance(context.original_route, Route)
        or context.dependant is None
        or declared(context.dependant) is None
    ]


def test_every_route_says_who_may_call_it(application: FastAPI) -> None:
    assert len(list(operations_of(application))) > 30
    assert undeclared(application) == []


def test_a_route_of_another_class_would_be_found(application: FastAPI) -> None:
    strange = APIRouter(prefix="/strange")
    strange.add_api_route("", lambda: None, methods=["POST"])
    outer = APIRouter(prefix="/api/v1")
    outer.include_router(strange)
    application.include_router(outer)
    application.mount("/mounted", FastAPI())
    assert undeclared(application) == [("POST", "/api/v1/strange"), ("", "/mounted")]


def test_every_websocket_says_what_opens_it(application: FastAPI) -> None:
    assert sockets_of(application) == TICKETS
    assert undeclared(application) == []

    @application.websocket("/strange")
    async def talk(websocket: WebSocket) -> None: ...

    assert undeclared(application) == [("", "/strange")]


def test_a_route_that_says_nothing_cannot_be_made() -> None:
    router = router_of("/things", "things")

    async def read_things() -> None: ...

    with pytest.raises(UndeclaredAccessError, match=r"test_access\.read_things does not say who"):
        router.add_api_route("", read_things)
    assert router.routes == []

    async def open_thing(scope: Scope, receive: Receive, send: Send) -> None: ...

    with pytest.raises(UndeclaredAccessError, match=r"test_access\.open_thing does not say who"):
        SocketRoute("/things", open_thing, access="")


def test_only_development_has_routes_that_nobody_declares(
    settings_with: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = undeclared(create_app(settings_with(environment="development")))
    assert {path for _, path in found} == DOCUMENTATION


def test_the_table_has_every_operation_and_no_other(application: FastAPI) -> None:
    found = {operation for operation, _ in operations_of(application)}
    assert found - set(ALLOWED) == set(), "operations that the table of this test lacks"
    assert set(ALLOWED) - found == set(), "rows of the table that are no operation"
    assert set(ON_OTHERS) <= found
    assert set(BODIES) <= found


def test_the_documentation_tells_the_access_that_is_enforced(application: FastAPI) -> None:
    paths = application.openapi()["paths"]
    told = {
        (method.upper(), path): operation
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    enforced = {
        operation: declared(context.dependant)
        for operation, context in operations_of(application)
        if context.dependant is not None
    }
    assert set(enforced) - set(told) == {("GET", "/metrics")}
    for operation, document in told.items():
        access = enforced[operation]
        assert document["x-access"] == (access or "anyone"), operation
        assert document.get("security", []) == securities(access or {}), operation
        # A caller can be refused just where something is needed of it.
        assert not access or {"401", "403"} <= set(document["responses"]), operation


def securities(access: dict[str, str]) -> list[dict[str, list[str]]]:
    """Return what OpenAPI should say: any of the schemes, each with all scopes that are needed."""
    if not access:
        return []
    scopes = scopes_of(access)
    by_key = "session_scopes" not in access and access.get("credential") != "session"
    schemes = ("bearer", "key", "cookie") if by_key else ("bearer", "cookie")
    return [{scheme: scopes} for scheme in schemes]


def scopes_of(access: dict[str, str]) -> list[str]:
    return f"{access.get('scopes', '')} {access.get('session_scopes', '')}".split()


def test_the_documentation_and_the_table_agree(application: FastAPI) -> None:
    for path, operations in application.openapi()["paths"].items():
        for method, document in operations.items():
            allowed = ALLOWED[method.upper(), path]
            schemes = {name for one in document.get("security", []) for name in one}
            assert (allowed == ANYONE) == (not schemes), path
            assert bool(allowed & set(KEYS.values())) == ("key" in schemes or allowed == ANYONE)


@pytest.mark.parametrize("caller", CALLERS)
async def test_each_operation_is_open_to_just_those_of_the_table(stage: Stage, caller: str) -> None:
    wrong: dict[Operation | tuple[Operation, str], str] = {}
    cells = [(operation, allowed, None) for operation, allowed in ALLOWED.items()]
    others = [(operation, allowed, "victim") for operation, allowed in ON_OTHERS.items()]
    for operation, allowed, of in [*cells, *others]:
        answer = await stage.call(operation, caller, of=of)
        if not fits(answer, caller, may=caller in allowed):
            wrong[operation, of or "own"] = f"{answer.status_code} {answer.text}"
        await stage.set_back()
    assert wrong == {}


def fits(answer: httpx.Response, caller: str, *, may: bool) -> bool:
    """Say whether an answer is what the table says; what is allowed is also carried out."""
    if may:
        return answer.is_success
    return answer.status_code == (401 if caller == NOBODY else 403)


@pytest.mark.parametrize("path", ["/api/v1/auth/refresh", "/api/v1/auth/logout"])
async def test_without_its_proof_in_the_body_a_session_is_neither_continued_nor_ended(
    stage: Stage, path: str
) -> None:
    for headers in ({}, stage.headers[KEYS["super_admin"]]):
        assert (await stage.client.post(path, headers=headers)).status_code == 401
    body = {"refresh_token": "hrt_wrong"}
    assert (await stage.client.post(path, json=body)).status_code == 401


async def test_each_declared_scope_is_needed_and_all_of_them_are_enough(
    stage: Stage, application: FastAPI
) -> None:
    async def get_status(headers: dict[str, str]) -> tuple[int, str]:
        answer = await stage.call(operation, SESSIONS["admin"], headers=headers)
        code = "" if answer.is_success else answer.json()["error"]["code"]
        await stage.set_back()
        return answer.status_code, code

    needed: dict[Operation, list[str]] = {
        operation: scopes_of(declared(context.dependant) or {})
        for operation, context in operations_of(application)
        if context.dependant is not None
    }
    checked = set()
    for operation, scopes in needed.items():
        if not scopes:
            continue
        for missing in scopes:
            headers = await stage.granted(*(scope for scope in SCOPES if scope != missing))
            assert await get_status(headers) == (403, "insufficient_scope"), (operation, missing)
            checked.add(missing)
        status, code = await get_status(await stage.granted(*scopes))
        assert status < 300, (operation, code)
    assert checked == {
        "profile:read",
        "profile:write",
        "items:read",
        "items:write",
        "users:read",
        "users:write",
        "admin",
    }


@pytest.mark.parametrize(
    ("of", "scope", "status"),
    [
        (None, "items:write", 204),
        (None, "items:delete", 204),
        (None, "items:read", 403),
        ("victim", "items:delete", 204),
        ("victim", "items:write", 403),
    ],
)
async def test_deleting_an_item_takes_the_scope_for_its_owner(
    stage: Stage, of: str | None, scope: str, status: int
) -> None:
    headers = await stage.granted(scope)
    operation = ("DELETE", "/api/v1/items/{item_id}")
    answer = await stage.call(operation, SESSIONS["admin"], of=of, headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "insufficient_scope"


@pytest.mark.parametrize("role", ROLES)
async def test_a_key_made_without_scopes_may_not_administer(stage: Stage, role: str) -> None:
    headers = stage.headers[SESSIONS[role]]
    made = await stage.client.post("/api/v1/api-keys", json={"name": "usual"}, headers=headers)
    key = {"X-API-Key": made.json()["api_key"]}
    assert (await stage.client.get("/api/v1/users/me", headers=key)).status_code == 200
    assert (await stage.client.get("/api/v1/admin/users", headers=key)).status_code == 403


async def test_a_credential_loses_what_its_account_loses(stage: Stage, sql: RunSql) -> None:
    for caller in (SESSIONS["admin"], KEYS["admin"]):
        operation = ("GET", "/api/v1/admin/users")
        assert (await stage.call(operation, caller)).status_code == 200
        sql("UPDATE users SET role = 'moderator' WHERE role = 'admin'")
        assert (await stage.call(operation, caller)).status_code == 403
        sql("UPDATE users SET is_active = false WHERE username = 'the-admin'")
        assert (await stage.call(operation, caller)).status_code == 401
        await stage.set_back()


async def test_a_cookie_writes_only_with_its_csrf_token(stage: Stage) -> None:
    client = stage.client
    form = {"username": "victim", "password": PASSWORD}
    csrf = (await client.post("/api/v1/auth/login", data=form)).json()["csrf_token"]
    # The client sends them over TLS only, which is not there.
    headers = {"Cookie": "; ".join(f"{one.name}={one.value}" for one in client.cookies.jar)}
    client.cookies.clear()
    assert (await client.get("/api/v1/users/me", headers=headers)).status_code == 200
    for given in ({}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": csrf, "Origin": "https://evil"}):
        answer = await client.post("/api/v1/items", json=ITEM, headers={**headers, **given})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "csrf_failed")
    good = {**headers, "X-CSRF-Token": csrf}
    assert (await client.post("/api/v1/items", json=ITEM, headers=good)).status_code == 201
