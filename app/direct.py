"""Reads that are carried out without the framework's general way through an operation.

That way opens three stacks for what has to be closed, keeps a cache of dependencies and walks
through their tree, in all longer than the database takes to find an account. An operation that has
nothing to close, no body and no dependency but functions of the request needs none of it. What its
parameters may be and how its answer is checked are still the framework's.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, serialize_response
from starlette.datastructures import QueryParams

_Call = Callable[..., Awaitable[Any]]
_CONSTANTS = (int, str, type(None))
_Step = tuple[str | None, _Call, str | None]


def directly(route: APIRoute) -> Callable[[Request], Awaitable[Response]] | None:
    """Return how a route's operation is carried out; nothing when it needs the general way."""
    dependant = route.dependant
    steps = [_step(one) for one in dependant.dependencies]
    if route.methods != {"GET"} or route.body_field or not _asks_for_little(dependant):
        return None
    if not all(steps) or _answers_its_own_way(route):
        return None
    return _Operation(route, [step for step in steps if step]).run


def _step(dependency: Dependant) -> _Step | None:
    """Return a dependency as what it is called, what to call, and where the request belongs."""
    parameters = (dependency.path_params, dependency.query_params, dependency.dependencies)
    if any(parameters) or dependency.body_params or not _asks_for_little(dependency):
        return None
    assert dependency.call  # noqa: S101
    return dependency.name, dependency.call, dependency.request_param_name


def _asks_for_little(dependant: Dependant) -> bool:
    """Say whether it is a coroutine of the request, and of parameters that the caller sees to."""
    further = (
        dependant.header_params,
        dependant.cookie_params,
        dependant.http_connection_param_name,
        dependant.websocket_param_name,
        dependant.response_param_name,
        dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
        dependant.concurrency,
    )
    return not any(further) and _is_coroutine(dependant.call)


def _answers_its_own_way(route: APIRoute) -> bool:
    returned = route.endpoint.__annotations__.get("return")
    further = (
        # Without a model only a whole response says what the body is.
        not route.response_field
        and not (isinstance(returned, type) and issubclass(returned, Response)),
        not isinstance(route.response_class, DefaultPlaceholder),
        route.response_model_include,
        route.response_model_exclude,
        not route.response_model_by_alias,
        route.response_model_exclude_unset,
        route.response_model_exclude_defaults,
        route.response_model_exclude_none,
        route.is_sse_stream,
        route.is_json_stream,
    )
    return any(further)


def _is_coroutine(call: Callable[..., Any] | None) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
        getattr(call, "__call__", None)  # noqa: B004
    )


class _Operation:
    """One operation and what it asks for."""

    def __init__(self, route: APIRoute, steps: Sequence[_Step]) -> None:
        dependant = route.dependant
        assert dependant.call  # noqa: S101
        self._call: _Call = dependant.call
        self._steps = steps
        self._request_name = dependant.request_param_name
        self._path = dependant.path_params
        self._query = dependant.query_params
        self._defaults = _defaults(self._query)
        self._field = route.response_field
        self._status = route.status_code or 200

    async def run(self, request: Request) -> Response:
        """Carry it out.

        Raises:
            RequestValidationError: when a parameter is missing or wrong.
        """
        values: dict[str, Any] = {}
        for name, call, request_name in self._steps:
            found = await (call(**{request_name: request}) if request_name else call())
            if name is not None:
                values[name] = found
        problems = self._read(request, values)
        if problems:
            raise RequestValidationError(problems)
        if self._request_name:
            values[self._request_name] = request
        answer = await self._call(**values)
        if isinstance(answer, Response):
            return answer
        content = await serialize_response(
            field=self._field, response_content=answer, dump_json=True
        )
        return Response(content, self._status, media_type="application/json")

    def _read(self, request: Request, values: dict[str, Any]) -> list[Any]:
        """Add the parameters of path and query; return what is wrong with them."""
        problems: list[Any] = []
        if self._path:
            found, problems = request_params_to_args(self._path, request.path_params)
            values.update(found)
        if self._defaults is not None and not request.scope["query_string"]:
            values.update(self._defaults)
        elif self._query:
            found, wrong = request_params_to_args(self._query, request.query_params)
            values.update(found)
            problems += wrong
        return problems


def _defaults(fields: Sequence[Any]) -> dict[str, Any] | None:
    """Return what a query that says nothing means, if that is always the same."""
    values, problems = request_params_to_args(fields, QueryParams())
    if problems or not all(isinstance(value, _CONSTANTS) for value in values.values()):
        return None
    return values
