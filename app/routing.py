"""How endpoints are declared: each says who may call it and how it may fail."""

import json
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from fastapi.dependencies.utils import get_dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator
from starlette.exceptions import HTTPException

from app.access import declared, takes_session
from app.bodies import BoundedBody
from app.dependencies import KEY_SCHEME


def _digits(value: Any) -> Any:  # noqa: ANN401 - what a path brings
    """Refuse a number with blanks around it, or in other digits: one address for one thing."""
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        message = "it must be a number"
        raise ValueError(message)
    return value


# PostgreSQL's bigint ends here.
Identifier = Annotated[int, BeforeValidator(_digits), Path(ge=1, le=2**63 - 1)]

Skip = Annotated[int, Query(ge=0, le=2**31)]
Limit = Annotated[int, Query(ge=1, le=100)]

# What may happen to every request: a wrong host or broken JSON, a body that is too large, a field
# that is wrong, too many requests, a fault, a database that is away.
ALWAYS = (400, 413, 422, 429, 500, 503)

FORM = "application/x-www-form-urlencoded"
# A name and a password of the greatest length, percent-encoded, and a list of scopes.
LARGEST_FORM = 8192

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


def _no(constant: str) -> None:
    """Refuse NaN and the infinities, which are no JSON (RFC 8259, section 6)."""
    message = f"{constant} is no JSON"
    raise json.JSONDecodeError(message, "", 0)


class Route(APIRoute):
    """One operation of the API, with its access and its errors declared."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401
        found = get_dependant(path=path, call=endpoint)
        access = declared(found, options.get("dependencies") or ())
        if access is None:
            message = f"{endpoint.__module__}.{endpoint.__name__} does not say who may call it."
            raise UndeclaredAccessError(message)
        usual = (*ALWAYS, 401, 403) if access else ALWAYS
        options["responses"] = {**errors(*usual), **(options.get("responses") or {})}
        options["openapi_extra"] = {"x-access": access or "anyone"}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> _Handler:
        """Return the handler, which reads JSON strictly."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strict


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
    """The application, whose documentation names API keys only where they are accepted.

    FastAPI lists every scheme that an endpoint may read a credential by.
    """

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                if takes_session(operation.get("x-access")):
                    schemes = operation["security"]
                    operation["security"] = [one for one in schemes if KEY_SCHEME not in one]
        return document


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what an operation declares of the errors that it answers with."""
    return {
        status: {"model": ErrorView, "description": HTTPStatus(status).phrase}
        for status in statuses
    }


def router_of(prefix: str, tag: str, route_class: type[Route] = Route) -> APIRouter:
    """Return a router of a feature."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=route_class)
