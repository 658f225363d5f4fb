"""Reads that go straight to their endpoint answer as the framework's general way does."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import BackgroundTasks, Cookie, Depends, Header, Path, Query, Request, Response
from fastapi.security import SecurityScopes
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from app import main
from app.access import anyone
from app.dependencies import WorkerResources
from app.direct import directly
from app.error_handlers import add_error_handlers
from app.routing import Route, Service, UnlimitedRoute, router_of
from app.settings import Settings
from tests.app.stage import KEYS, NOBODY, SESSIONS, Stage, stage_on
from tests.services import PostgreSQL, RedisServer

CALLERS = (NOBODY, SESSIONS["user"], KEYS["super_admin"])
IDS = ("1", "999", "0", "-1", "+1", "x", "1.0", "%201", "%D9%A1", str(2**63), "")
VALUES = ("", "0", "1", "-1", "x", "101", str(10**20), "%00", "a%25b", "true", "1&{name}=2")
STRAIGHT = {
    "/api/v1/items",
    "/api/v1/items/{item_id}",
    "/api/v1/books",
    "/api/v1/books/{book_id}",
    "/api/v1/users/me",
    "/health",
}


@pytest.fixture(scope="module")
async def stage(
    postgresql: PostgreSQL, redis_server: RedisServer, settings_with: Callable[..., Settings]
) -> AsyncIterator[Stage]:
    chosen = settings_with(cache_url=None)
    async with stage_on(postgresql, redis_server, chosen) as ready:
        yield ready


def routes_of(application: Any) -> list[Route]:
    return [route for route in application.routes if isinstance(route, Route)]


def straight_routes() -> dict[str, Route]:
    application = Service(openapi_url=None)
    main._add_routes(application)
    return {route.path: route for route in routes_of(application) if route._direct}


@contextmanager
def general_way(application: Any) -> Iterator[None]:
    """Let the framework carry out every operation."""
    routes = routes_of(application)
    before = [route._direct for route in routes]
    for route in routes:
        route._direct = None
    try:
        yield
    finally:
        for route, one in zip(routes, before, strict=True):
            route._direct = one


def told(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], str]:
    """What an answer says, without what is different each time."""
    request_id = answer.headers["x-request-id"]
    headers = [pair for pair in answer.headers.multi_items() if pair[0] != "x-request-id"]
    return answer.status_code, sorted(headers), answer.text.replace(request_id, "ID")


def test_the_reads_that_are_asked_for_most_go_straight() -> None:
    assert set(straight_routes()) >= STRAIGHT


def addresses(route: Route) -> Iterator[str]:
    """Addresses of an operation, right ones and wrong ones."""
    names = [field.alias for field in route.dependant.path_params]
    for number in IDS if names else ("",):
        path = route.path
        for name in names:
            path = path.replace("{" + name + "}", number)
        yield path
    path = route.path
    for name in names:
        path = path.replace("{" + name + "}", "1")
    for query in ("?", "?&", "?=", "?unknown=1"):
        yield path + query
    for field in route.dependant.query_params:
        for value in VALUES:
            yield f"{path}?{field.alias}={value.format(name=field.alias)}"


@pytest.mark.parametrize("path", sorted(straight_routes()))
async def test_both_ways_answer_alike(stage: Stage, path: str) -> None:
    application = stage.client.application  # type: ignore[attr-defined]
    (route,) = [one for one in routes_of(application) if one.path == path and one._direct]
    declared = {str(status) for status in route.responses} | {str(route.status_code or 200)}
    seen = set()
    for caller in CALLERS:
        for known in ({}, {"If-None-Match": "*"}):
            headers = {**stage.headers[caller], **known}
            for address in addresses(route):
                straight = await stage.client.get(address, headers=headers)
                with general_way(application):
                    general = await stage.client.get(address, headers=headers)
                # Numbers and times of the process itself go on meanwhile.
                if path != "/metrics":
                    assert told(straight) == told(general), address
                assert straight.status_code == general.status_code
                seen.add(str(straight.status_code))
    # A path with nothing in the place of a number is another one's.
    assert seen - {"307", "404", "405"} <= declared
    assert seen & {"200", "304"}


async def test_both_ways_refuse_whoever_asks_too_often(
    postgresql: PostgreSQL, redis_server: RedisServer, settings_with: Callable[..., Settings]
) -> None:
    limited = settings_with(limit_default="2/hour")
    async with stage_on(postgresql, redis_server, limited) as ready:
        application = ready.client.application  # type: ignore[attr-defined]
        found = [await ready.client.get("/api/v1/items") for _ in range(3)]
        with general_way(application):
            general = await ready.client.get("/api/v1/items")
        assert [one.status_code for one in (*found, general)] == [200, 200, 429, 429]
        assert set(found[2].headers) == set(general.headers)


class View(BaseModel):
    """What the endpoints of the tests answer with."""

    value: str


async def _from_query(value: str = "usual") -> str:
    return value


async def _closed() -> AsyncIterator[str]:
    yield "closed"


def _in_a_thread() -> str:
    return "thread"


async def _of_the_request(request: Request) -> str:
    return request.url.path


async def _deeper(value: Annotated[str, Depends(_of_the_request)]) -> str:
    return value


class _Called:
    async def __call__(self, request: Request) -> str:
        return request.method


async def plain(value: str = "usual") -> View:
    return View(value=value)


async def of_path(number: Annotated[int, Path(ge=1)]) -> View:
    return View(value=str(number))


async def of_request(request: Request, value: Annotated[str, Depends(_of_the_request)]) -> View:
    return View(value=f"{request.method} {value}")


async def of_object(value: Annotated[str, Depends(_Called())]) -> View:
    return View(value=value)


async def with_header(value: Annotated[str, Header()] = "usual") -> View:
    return View(value=value)


async def with_cookie(value: Annotated[str, Cookie()] = "usual") -> View:
    return View(value=value)


async def with_response(response: Response) -> View:
    response.headers["X-Said"] = "yes"
    return View(value="usual")


async def with_background(tasks: BackgroundTasks) -> View:
    tasks.add_task(_in_a_thread)
    return View(value="usual")


async def with_connection(connection: HTTPConnection) -> View:
    return View(value=connection.url.path)


async def with_scopes(scopes: SecurityScopes) -> View:
    return View(value=scopes.scope_str or "usual")


async def with_query_below(value: Annotated[str, Depends(_from_query)]) -> View:
    return View(value=value)


async def with_something_to_close(value: Annotated[str, Depends(_closed)]) -> View:
    return View(value=value)


async def with_thread_below(value: Annotated[str, Depends(_in_a_thread)]) -> View:
    return View(value=value)


async def with_tree(value: Annotated[str, Depends(_deeper)]) -> View:
    return View(value=value)


async def with_model(query: Annotated[View, Query()]) -> View:
    return query


async def with_body(body: View | None = None) -> View:
    return body or View(value="usual")


async def without_model() -> dict[str, str]:
    return {"value": "usual"}


def in_a_thread(value: str = "usual") -> View:
    return View(value=value)


def service_of(endpoint: Callable[..., Any], path: str = "/asked", **options: Any) -> Service:
    """A service with one operation, which no limit counts."""
    router = router_of("", "tests", UnlimitedRoute)
    router.get(path, dependencies=[anyone()], **options)(endpoint)
    application = Service(openapi_url=None)
    add_error_handlers(application)
    application.add_routes(router)
    return application


async def ask(application: Service, path: str = "/asked") -> httpx.Response:
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        return await client.get(path)


@pytest.mark.parametrize(
    ("endpoint", "path", "value"),
    [
        (plain, "/asked", "usual"),
        (of_path, "/asked/{number}", "7"),
        (of_request, "/asked", "GET /asked"),
        (of_object, "/asked", "GET"),
    ],
)
async def test_what_asks_for_little_goes_straight(
    endpoint: Callable[..., Any], path: str, value: str
) -> None:
    application = service_of(endpoint, path)
    (route,) = routes_of(application)
    assert route._direct
    straight = await ask(application, path.format(number=7))
    with general_way(application):
        general = await ask(application, path.format(number=7))
    assert straight.json() == general.json() == {"value": value}


@pytest.mark.parametrize(
    ("endpoint", "value"),
    [
        (with_header, "usual"),
        (with_cookie, "usual"),
        (with_response, "usual"),
        (with_background, "usual"),
        (with_connection, "/asked"),
        (with_scopes, "usual"),
        (with_query_below, "usual"),
        (with_something_to_close, "closed"),
        (with_thread_below, "thread"),
        (with_tree, "/asked"),
        (with_body, "usual"),
        (in_a_thread, "usual"),
    ],
)
async def test_what_asks_for_more_takes_the_general_way(
    endpoint: Callable[..., Any], value: str
) -> None:
    application = service_of(endpoint)
    (route,) = routes_of(application)
    assert route._direct is None
    answer = await ask(application)
    assert (answer.status_code, answer.json()) == (200, {"value": value})


@pytest.mark.parametrize(
    "options",
    [
        {"response_model_exclude": {"value"}},
        {"response_model_include": {"value"}},
        {"response_model_by_alias": False},
        {"response_model_exclude_unset": True},
        {"response_model_exclude_defaults": True},
        {"response_model_exclude_none": True},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_an_answer_that_is_made_in_its_own_way_takes_the_general_way(
    options: dict[str, Any],
) -> None:
    (route,) = routes_of(service_of(plain, **options))
    assert directly(route) is None


async def test_an_answer_without_a_model_takes_the_general_way() -> None:
    application = service_of(without_model, response_model=None)
    (route,) = routes_of(application)
    assert route._direct is None
    assert (await ask(application)).json() == {"value": "usual"}


async def test_a_query_in_a_model_is_read_alike() -> None:
    application = service_of(with_model)
    for path in ("/asked", "/asked?value=x", "/asked?value="):
        straight = await ask(application, path)
        with general_way(application):
            general = await ask(application, path)
        assert (straight.status_code, straight.text) == (general.status_code, general.text)


async def test_an_endpoint_that_fails_fails_alike() -> None:
    async def fails(resources: WorkerResources) -> View:
        raise RuntimeError(str(resources))

    application = service_of(fails)
    # There are no resources here.
    with pytest.raises(AttributeError):
        await ask(application)
    with general_way(application), pytest.raises(AttributeError):
        await ask(application)
