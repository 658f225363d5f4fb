"""Reading the body of a request up to a size."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive


class BoundedBody:
    """Reads the request's body up to a size, whether its length was announced or not."""

    def __init__(self, receive: Receive, headers: Headers, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        announced = headers.get("content-length", "")
        self._announced = int(announced) if announced.isdecimal() else 0
        self._read = 0

    def widen(self, limit: int) -> None:
        """Read more than usual, of a caller who was let pass."""
        self._limit = max(self._limit, limit)

    async def receive(self) -> Message:
        """Return the next part.

        Raises:
            HTTPException: 413 when the body is too large.
        """
        if self._announced > self._limit:
            raise HTTPException(413)
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self._limit:
                raise HTTPException(413)
        return message
