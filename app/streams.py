"""Answers that are sent piece by piece, of which only so many may be under way."""

import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

Open = Callable[[], Awaitable[AsyncIterable[bytes]]]
Place = Callable[[], AbstractAsyncContextManager[None]]


class Stream(StreamingResponse):
    """What is read only when there is a place for that, which it keeps until all is sent.

    A request for the head alone (HEAD) takes no place, and nothing is read for it.
    """

    def __init__(
        self,
        opened: Open,
        place: Place,
        headers: Mapping[str, str],
        media_type: str,
        status_code: int = 200,
    ) -> None:
        """Make an answer.

        Args:
            opened: returns the pieces, once the first of them is there.
            place: is entered before anything is read.
            headers: of the answer.
            media_type: of what is sent.
            status_code: of HTTP, when all goes well.
        """
        super().__init__((), status_code, headers, media_type)
        self._opened = opened
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; what goes wrong before its first byte is answered as everywhere."""
        if scope["method"] == "HEAD":
            status, headers = self.status_code, self.raw_headers
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body"})
            return
        async with self._place():
            self.body_iterator = await self._opened()
            # What the client still sends is read and dropped: a refusal would cut the answer, and
            # one who sends a whole body before reading would wait for ever if it were left.
            scope["state"]["body"].widen(sys.maxsize)
            await super().__call__(scope, receive, send)
