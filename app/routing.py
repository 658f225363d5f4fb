"""How endpoints are declared: each says who may call it and how it may fail."""

import json
from collections.abc import Callable, Coroutine, Iterable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from fastapi.dependencies.utils import get_dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from app.access import documented, needs_of
from app.accounts import LARGEST_ID
from app.bodies import BoundedBody
from app.dependencies import (
    SECURITY_SCHEMES,
    check_rate_limit,
    identify,
    identify_and_count,
)
from app.direct import directly


def _digits(value: Any) -> Any:  # noqa: ANN401 - what a path brings
    """Refuse a number with blanks around it, or in other digits: one address for one thing."""
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        message = "it must be a number"
        raise ValueError(message)
    return value


Identifier = Annotated[int, BeforeValidator(_digits), Path(ge=1, le=LARGEST_ID)]

Skip = Annotated[int, Query(ge=0, le=2**31)]
Limit = Annotated[int, Query(ge=1, le=100)]

# What may happen to every request: a wrong host or broken JSON, a body that is too large, a field
# that is wrong, too many requests, a fault, a database that is away.
ALWAYS = (400, 413, 422, 429, 500, 503)

API = "/api/v1"
FORM = "application/x-www-form-urlencoded"
# A name and a password of the greatest length, percent-encoded, and a list of scopes.
LARGEST_FORM = 8192

# Whatever can be read has a head, and the server leaves the body out (RFC 9110, section 9.3.2).
_READS = frozenset({"GET", "HEAD"})

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Done(BaseModel):
    """Something was done."""

    message: str


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str
    message: str
    request_id: str | None


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    type: str
    loc: list[str | int]
    msg: str


class ErrorView(BaseModel):
    """The shape of every error."""

    error: ErrorBody
    detail: str | list[FieldProblem]


class UndeclaredAccessError(TypeError):
    """An endpoint does not say who may call it."""


class _StrictRequest(Request):
    """A request whose JSON has each key once: of two readers each could believe another one."""

    async def json(self) -> Any:  # noqa: ANN401 - as the framework has it
        """Return the body.

        Raises:
            JSONDecodeError: when it is no JSON, or has a key twice.
        """
        if not hasattr(self, "_json"):
            self._json = json.loads(
                await self.body(), object_pairs_hook=_unique, parse_constant=_no
            )
        return self._json


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        message = "An object has the same key twice"
        raise json.JSONDecodeError(message, "", 0)
    return values


def _with_head(methods: Iterable[str]) -> frozenset[str]:
    known = frozenset(methods)
    return known | _READS if "GET" in known else known


def _allowed(scope: Scope) -> str:
    """Return the methods of all routes at an address; each route by itself knows its own."""
    routes = (one for one in scope["router"].routes if one.matches(scope)[0] is not Match.NONE)
    known = {method for route in routes for method in getattr(route, "methods", None) or ()}
    return ", ".join(sorted(_with_head(known)))


def _no(constant: str) -> None:
    """Refuse NaN and the infinities, which are no JSON (RFC 8259, section 6)."""
    message = f"{constant} is no JSON"
    raise json.JSONDecodeError(message, "", 0)


class Route(APIRoute):
    """One operation of the API, with its access and its errors declared.

    One that reads answers HEAD too, which no document lists: there is nothing to say of it.
    """

    # Whether the default rate limit counts its requests.
    limited = True

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401
        found = get_dependant(path=path, call=endpoint)
        needs = needs_of(found, options.get("dependencies") or ())
        if needs is None:
            message = f"{endpoint.__module__}.{endpoint.__name__} does not say who may call it."
            raise UndeclaredAccessError(message)
        self._needs = needs
        usual = (*ALWAYS, 401, 403) if needs else ALWAYS
        options["responses"] = {**errors(*usual), **(options.get("responses") or {})}
        options["openapi_extra"] = {**(options.get("openapi_extra") or {}), **documented(needs)}
        super().__init__(path, endpoint, **options)

        self._direct = directly(self)
        self._answers = _with_head(self.methods or ())
        self._beginning = self.path.partition("{")[0]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether a request is for this route; what begins otherwise needs no expression."""
        alone = "fastapi" not in scope and not scope.get("root_path")
        if alone and not scope["path"].startswith(self._beginning):
            return Match.NONE, {}
        match, found = super().matches(scope)
        if match is Match.PARTIAL and scope["method"] in self._answers:
            return Match.FULL, found
        return match, found

    def get_route_handler(self) -> _Handler:
        """Return the handler, which lets a caller pass before it reads anything of the body."""
        handle = super().get_route_handler()

        async def admit(request: Request) -> Response:
            await self._admit(request)
            return await handle(_StrictRequest(request.scope, request.receive))

        return admit

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; most reads go straight to their endpoint (`app.direct`)."""
        # Within a router that another includes, the framework adds to what a route declares.
        if "effective_route_context" in scope.get("fastapi", ()):
            await super().handle(scope, receive, send)
            return
        if self._direct is None or scope["method"] not in _READS:
            await self._handle_generally(scope, receive, send)
            return
        request = Request(scope, receive, send)
        await self._admit(request)
        response = await self._direct(request)
        await response(scope, receive, send)

    async def _handle_generally(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in the framework's way, which would refuse HEAD."""
        if scope["method"] not in self._answers:
            raise HTTPException(405, headers={"Allow": _allowed(scope)})
        await self.app(scope, receive, send)

    async def _admit(self, request: Request) -> None:
        """Let a caller pass that asks not too often and may do this."""
        if self._needs:
            identity = await (identify_and_count if self.limited else identify)(request)
            for need in self._needs:
                need.check(identity)
        elif self.limited:
            await check_rate_limit(request)


class UnlimitedRoute(Route):
    """An operation for those who watch the service, which no rate limit counts."""

    limited = False


class FormRoute(Route):
    """An operation that takes a small form, and looks at its type and size before it reads it.

    A form of several parts may name a character set for each of them, some of which take Python
    minutes to decode; none is needed here.
    """

    def get_route_handler(self) -> _Handler:
        """Return the handler, which refuses other types of bodies, and large ones."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != FORM:
                raise HTTPException(415, f"The body must be a form of the type {FORM}.")
            # The framework's own bound answers in plain text.
            body = BoundedBody(request.receive, request.headers, LARGEST_FORM)
            return await handle(Request(request.scope, body.receive))

        return guarded


class Service(FastAPI):
    """The application, whose documentation tells by which schemes the routes know callers."""

    def add_routes(self, router: APIRouter) -> None:
        """Add the routes of a feature.

        As they are: in a router that is included the framework seeks each route twice.
        """
        self.router.routes.extend(router.routes)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        document.setdefault("components", {})["securitySchemes"] = SECURITY_SCHEMES
        return document


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what an operation declares of the errors that it answers with."""
    return {
        status: {"model": ErrorView, "description": HTTPStatus(status).phrase}
        for status in statuses
    }


def router_of(prefix: str, tag: str, route_class: type[Route] = Route) -> APIRouter:
    """Return a router of a feature, with the whole path of what is in it."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=route_class)
