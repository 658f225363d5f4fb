"""What surrounds every request: its name, its log line, its numbers, its headers, its bounds.

One ASGI middleware does most of it, because each layer costs every request.
"""

import re
import secrets
import time
from collections.abc import Sequence

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import metrics
from app.bodies import BoundedBody
from app.error_handlers import error_response
from app.handshakes import Handshake
from app.headers import with_usual
from app.log import get_logger
from app.origins import route_template
from app.resources import Resources

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
# Swagger UI and ReDoc, which only development serves, load their scripts from a CDN.
DOCUMENTATION_PATHS = ("/docs", "/redoc")


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


async def answer_fault(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer for an unforeseen error."""
    await error_response(scope, 500)(scope, receive, send)


class RequestMiddleware:
    """Names, measures, logs and secures each request, and answers for whatever escapes it.

    Args:
        app: what is surrounded.
        max_body_size: the bytes that the body of a request may have.
        fault: answers for an unforeseen error, outside of whatever adds headers within `app`.
    """

    def __init__(self, app: ASGIApp, max_body_size: int, fault: ASGIApp = answer_fault) -> None:
        self._app = app
        self._max_body_size = max_body_size
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._open(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        request_id = _name(scope, headers)
        answer = _Answer(scope, send, request_id)
        body = BoundedBody(receive, headers, self._max_body_size)
        scope["state"]["body"] = body
        try:
            await self._app(scope, body.receive, answer.send)
        except Exception as error:
            get_logger().exception("request.failed", message="The request met an unforeseen error.")
            _report(scope, error)
            if answer.status:
                raise
            await self._fault(scope, receive, answer.send)
        finally:
            _record(scope, answer.status, time.perf_counter() - started)
            structlog.contextvars.clear_contextvars()

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a WebSocket on; what is not opened gets an answer in the shape of all errors."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        request_id = _name(scope, Headers(scope=scope))
        handshake = Handshake(scope, send, request_id)
        try:
            await self._app(scope, receive, handshake.send)
        except OSError:
            # The client has gone.
            await handshake.give_up()
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            message = "The WebSocket met an unforeseen error."
            get_logger().exception("websocket.failed", message=message)
            _report(scope, error)
            await handshake.give_up()
        finally:
            structlog.contextvars.clear_contextvars()


def _name(scope: Scope, headers: Headers) -> str:
    """Give a request its id, for its answer and for the lines that are logged meanwhile."""
    request_id = _request_id(headers)
    scope.setdefault("state", {})["request_id"] = request_id
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


class _Answer:
    """Sends the answer on, with the headers that every answer has."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = headers = with_usual(message, self._request_id)
            if self.status == 200 and self._scope["path"].startswith(DOCUMENTATION_PATHS):  # noqa: PLR2004
                headers[:] = [pair for pair in headers if pair[0] != b"content-security-policy"]
        await self._send(message)


def _report(scope: Scope, error: Exception) -> None:
    """Tell the error tracker, if the application serves and has one."""
    resources: Resources | None = getattr(scope["app"].state, "resources", None)
    if resources is not None:
        method = scope.get("method", "WEBSOCKET")
        route = f"{method} {route_template(scope) or metrics.UNMATCHED}"
        request_id = scope["state"]["request_id"]
        resources.error_reports.report(error, route=route, request_id=request_id)


def _record(scope: Scope, status: int, seconds: float) -> None:
    """Count the request and write its line; a status of 0 means that nothing was answered."""
    route = route_template(scope)
    method = scope["method"]
    metrics.observe_request(method, route, status, seconds)
    path = scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "backslashreplace")
    log = get_logger()
    write = log.error if status >= 500 or status == 0 else log.info  # noqa: PLR2004
    duration = round(seconds * 1000, 2)
    client = scope.get("client")
    write(
        "http.request",
        message=f"{method} {path} {status} {duration} ms",
        http_method=method,
        http_route=route,
        http_status=status,
        duration_ms=duration,
        user_id=scope["state"].get("user_id"),
        client_address=client[0] if client else None,
    )


class TrustedHostMiddleware:
    """Answers only to the names that the service is known by."""

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str]) -> None:
        self._app = app
        self._allowed = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on when its Host header is in the list."""
        if scope["type"] not in {"http", "websocket"} or self._knows(Headers(scope=scope)):
            await self._app(scope, receive, send)
        else:
            refusal = error_response(
                scope, 400, code="invalid_host", message="The Host header names no host of ours."
            )
            await refusal(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        host = headers.get("host", "").lower()
        name, colon, port = host.rpartition(":")
        return host in self._allowed or (bool(colon) and port.isdecimal() and name in self._allowed)
