"""How WebSockets are declared, and how they are refused: by a real answer, before they open."""

from collections.abc import Awaitable, Callable

from starlette.requests import HTTPConnection
from starlette.routing import Match, WebSocketRoute
from starlette.types import Receive, Scope, Send

from app.error_handlers import answer_for
from app.errors import ServiceError
from app.routing import UndeclaredAccessError

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


class SocketRoute(WebSocketRoute):
    """A WebSocket of the API.

    Attributes:
        access: what a client has to bring, as `app.access` declares it of operations.
    """

    def __init__(self, path: str, endpoint: Endpoint, *, access: str) -> None:
        if not access:
            message = f"{endpoint.__module__}.{endpoint.__name__} does not say who may call it."
            raise UndeclaredAccessError(message)
        self.access = {"credential": access}
        super().__init__(path, endpoint)
        self._open = endpoint

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether a WebSocket is for this route, and tell those who log which one it is."""
        match, child = super().matches(scope)
        return match, {**child, "route": self} if match is Match.FULL else child

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open it; what the endpoint raises before it has accepted becomes an HTTP answer."""
        try:
            await self._open(scope, receive, send)
        except ServiceError as error:
            response = await answer_for(HTTPConnection(scope), error)
            await response(scope, receive, send)
