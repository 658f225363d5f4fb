"""Turns: so much is handed out, then those who write to the clients take it away.

Of many who speak or leave in one instant no queue would hold what is told, however fast its client
reads, if nobody could write meanwhile.
"""

import asyncio


class Turns:
    """Bounds what all clients are told between two turns of their writers.

    Attributes:
        most: messages that may be handed out in one turn.
        most_bytes: bytes of them; the one that exceeds them is the last of its turn.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self.most, self.most_bytes = most, most_bytes
        self._count = self._bytes = 0
        self._open = asyncio.Event()
        self._open.set()

    async def wait(self) -> None:
        """Wait until something may be handed out, which the caller then does at once."""
        while not self._open.is_set():
            await self._open.wait()

    def count(self, size: int) -> None:
        """Count a message of so many bytes that was handed out."""
        self._count += 1
        self._bytes += size
        if self._count >= self.most or self._bytes >= self.most_bytes:
            self._count = self._bytes = 0
            self._open.clear()
            # The writers have been woken before, so that they come first.
            asyncio.get_running_loop().call_soon(self._open.set)
