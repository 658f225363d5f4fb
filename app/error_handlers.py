"""The one shape of all errors, and the one place where failures become HTTP answers."""

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

from app.database_failures import DatabaseUnavailableError, tell
from app.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotAuthenticatedError,
    NotFoundError,
    PreconditionFailedError,
    RateLimitedError,
    ServiceError,
    StorageFullError,
    TooLargeError,
    TooSlowError,
    UnavailableError,
)
from app.origins import origin_of, route_template
from app.resources import Resources

STATUS_OF_ERROR: dict[type[ServiceError], int] = {
    BadRequestError: 400,
    NotAuthenticatedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    TooSlowError: 408,
    ConflictError: 409,
    PreconditionFailedError: 412,
    TooLargeError: 413,
    InvalidInputError: 422,
    RateLimitedError: 429,
    UnavailableError: 503,
    StorageFullError: 507,
}
MESSAGES = {
    404: "There is nothing at this address.",
    405: "This address does not know this method.",
    413: "The body of the request is too large.",
    416: "There is nothing in this range.",
    422: "The request has fields that are missing or wrong; see detail.",
    500: "The service met an unforeseen error; quote the request_id when you report it.",
}
CODES = {
    413: "payload_too_large",
    416: "range_not_satisfiable",
    422: "validation_error",
    500: "internal_error",
}


def error_response(  # noqa: PLR0913 - the members of one shape
    scope: Scope,
    status: int,
    *,
    code: str | None = None,
    message: str | None = None,
    detail: Any = None,  # noqa: ANN401
    headers: dict[str, str] | None = None,
) -> Response:
    """Return an answer in the shape that every error has.

    Args:
        scope: of the request, for its id.
        status: HTTP status.
        code: stable name; by default made from the status.
        message: for people; by default made from the status.
        detail: FastAPI's usual member; by default the message.
        headers: more headers of the answer.
    """
    code = code or CODES.get(status, HTTPStatus(status).name.lower())
    message = message or MESSAGES.get(status, f"{HTTPStatus(status).phrase}.")
    request_id = scope.get("state", {}).get("request_id")
    content = {
        "error": {"code": code, "message": message, "request_id": request_id},
        "detail": message if detail is None else detail,
    }
    return Response(orjson.dumps(content, default=str), status, headers, "application/json")


async def handle_service_error(request: Request, error: Exception) -> Response:
    """Answer for a failure of the domain."""
    assert isinstance(error, ServiceError)  # noqa: S101
    return await answer_for(request, error)


async def answer_for(request: HTTPConnection, error: ServiceError) -> Response:
    """Return the answer for a failure of the domain, to a request or to who opens a WebSocket."""
    status = next(code for kind, code in STATUS_OF_ERROR.items() if isinstance(error, kind))
    await _note_refusal(request, error)
    headers: dict[str, str] = {}
    detail: Any = None
    if isinstance(error, NotAuthenticatedError):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, RateLimitedError):
        headers = {
            "Retry-After": str(error.reset_after),
            "X-RateLimit-Limit": str(error.limit),
            "X-RateLimit-Remaining": str(error.remaining),
            "X-RateLimit-Reset": str(error.reset_after),
        }
    elif isinstance(error, InvalidInputError):
        detail = [{"type": error.code, "loc": ["body", error.field], "msg": error.message}]
    elif isinstance(error, TooSlowError):
        # The rest of the body is not waited for.
        headers["Connection"] = "close"
    elif isinstance(error, UnavailableError):
        headers["Retry-After"] = "2"
        if isinstance(error, DatabaseUnavailableError):
            tell(error)
    return error_response(
        request.scope,
        status,
        code=error.code,
        message=error.message,
        detail=detail,
        headers=headers,
    )


async def _note_refusal(request: HTTPConnection, error: ServiceError) -> None:
    """Write into the audit trail who was refused what."""
    kinds = {ForbiddenError: "access.forbidden", RateLimitedError: "limit.exceeded"}
    name = next((name for kind, name in kinds.items() if isinstance(error, kind)), None)
    resources: Resources | None = getattr(request.app.state, "resources", None)
    if name is not None and resources is not None:
        user_id: int | None = getattr(request.state, "user_id", None)
        method = request.scope.get("method", "WEBSOCKET")
        what = f"{method} {route_template(request.scope) or request.url.path}"
        await resources.refusals.note(name, what, origin_of(request), user_id)


async def handle_http_exception(request: Request, error: Exception) -> Response:
    """Answer for what the framework itself refuses: unknown paths, methods, bodies."""
    assert isinstance(error, HTTPException)  # noqa: S101
    status = error.status_code
    usual = error.detail == HTTPStatus(status).phrase
    message = None if usual and status in MESSAGES else str(error.detail)
    headers = dict(error.headers) if error.headers else None
    return error_response(request.scope, status, message=message, headers=headers)


async def handle_validation_error(request: Request, error: Exception) -> Response:
    """Answer for a request that does not fit the schema, without repeating its values."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    detail = [{key: problem[key] for key in ("type", "loc", "msg")} for problem in error.errors()]
    return error_response(request.scope, 422, detail=detail)


def add_error_handlers(app: FastAPI) -> None:
    """Give an application the handlers of this module."""
    app.add_exception_handler(ServiceError, handle_service_error)
    app.add_exception_handler(HTTPException, handle_http_exception)
    app.add_exception_handler(RequestValidationError, handle_validation_error)
