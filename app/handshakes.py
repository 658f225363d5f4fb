"""Opening a WebSocket, or refusing it with the answer that any other request would get.

The server below must be able to answer so (the extension `websocket.http.response` of ASGI); with
one that is not, a refused client gets what that server has for it.
"""

from starlette.types import Message, Scope, Send

from app import metrics
from app.error_handlers import error_response
from app.headers import with_usual
from app.log import get_logger
from app.origins import route_template

_EXTENSION = "websocket.http.response"
_POLICY_VIOLATION, _INTERNAL_ERROR = 1008, 1011


class Handshake:
    """Sends on what an endpoint says, and notes what becomes of the WebSocket."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._accepted = False
        self._over = False
        self._can_answer = _EXTENSION in (scope.get("extensions") or {})

    async def send(self, message: Message) -> None:
        """Send a message on; nothing more after an end."""
        kind = message["type"]
        if self._over:
            return
        if kind == "websocket.accept":
            self._accepted = True
            header = (b"x-request-id", self._request_id.encode())
            message["headers"] = [*message.get("headers", ()), header]
        elif kind == "websocket.close":
            if not self._accepted:
                # The framework knows no route, or does not like it.
                await self._refuse(403 if "endpoint" in self._scope else 404)
                return
            self._over = True
        elif kind == "websocket.http.response.start":
            self._note(message["status"])
            message["headers"] = with_usual(message, self._request_id)
            if not self._can_answer:
                self._over = True
                message = {"type": "websocket.close", "code": _POLICY_VIOLATION}
        elif kind == "websocket.http.response.body":
            self._over = not message.get("more_body", False)
        await self._send(message)

    async def give_up(self) -> None:
        """End it after a fault, so that the client is told of it."""
        if self._over:
            return
        if not self._accepted:
            await self._refuse(500)
            return
        self._over = True
        try:
            await self._send({"type": "websocket.close", "code": _INTERNAL_ERROR, "reason": ""})
        except (OSError, RuntimeError):
            # The client has gone, or it is closed already.
            return

    async def _refuse(self, status: int) -> None:
        response = error_response(self._scope, status)
        await response(self._scope, _nothing, self.send)

    def _note(self, status: int) -> None:
        metrics.WEBSOCKET_REFUSALS.labels(str(status)).inc()
        client = self._scope.get("client")
        log = get_logger()
        write = log.error if status >= 500 and status != 503 else log.info  # noqa: PLR2004
        write(
            "websocket.refused",
            message=f"WebSocket refused: {status}",
            http_route=route_template(self._scope),
            http_status=status,
            client_address=client[0] if client else None,
        )


async def _nothing() -> Message:
    """Stand for a request that says no more."""
    return {"type": "websocket.disconnect", "code": 1006}
