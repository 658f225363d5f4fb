"""What surrounds every request: its name, its log line, its numbers, its headers, its bounds.

One ASGI middleware does most of it, because each layer costs every request.
"""

import re
import secrets
import time
from collections.abc import Sequence

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import metrics
from app.bodies import BoundedBody
from app.error_handlers import error_response
from app.log import get_logger
from app.origins import route_template

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
# HSTS is missing on purpose: Nginx, which ends TLS, sets it once.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
# Swagger UI and ReDoc, which only development serves, load their scripts from a CDN.
DOCUMENTATION_PATHS = ("/docs", "/redoc")


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


class RequestMiddleware:
    """Names, measures, logs and secures each request, and answers for whatever escapes it."""

    def __init__(self, app: ASGIApp, max_body_size: int) -> None:
        self._app = app
        self._max_body_size = max_body_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        answer = _Answer(scope, send, request_id)
        body = BoundedBody(receive, headers, self._max_body_size)
        try:
            await self._app(scope, body.receive, answer.send)
        except Exception:
            get_logger().exception("request.failed", message="The request met an unforeseen error.")
            if answer.status:
                raise
            await error_response(scope, 500)(scope, receive, answer.send)
        finally:
            _record(scope, answer.status, time.perf_counter() - started)
            structlog.contextvars.clear_contextvars()


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
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._request_id
            # What is not said to be kept must not be: most answers are about one account.
            headers.setdefault("Cache-Control", "no-store")
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if self._scope["path"].startswith(DOCUMENTATION_PATHS) and self.status == 200:  # noqa: PLR2004
                del headers["Content-Security-Policy"]
        await self._send(message)


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
        elif scope["type"] == "http":
            refusal = error_response(
                scope, 400, code="invalid_host", message="The Host header names no host of ours."
            )
            await refusal(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _knows(self, headers: Headers) -> bool:
        host = headers.get("host", "").lower()
        name, colon, port = host.rpartition(":")
        return host in self._allowed or (bool(colon) and port.isdecimal() and name in self._allowed)
