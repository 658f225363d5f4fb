"""How slowly a body may come in."""

import asyncio
from collections.abc import AsyncIterator

from app.errors import TooSlowError

# Longer than a connection is interrupted where a phone goes from one network into another.
_PATIENCE = 30.0


async def in_time(chunks: AsyncIterator[bytes], rate: float) -> AsyncIterator[bytes]:
    """Return a body piece by piece, as long as it comes fast enough.

    Args:
        chunks: The body, in the pieces in which it comes.
        rate: Bytes a second that must come on average; what is waited for the store is not
            counted. A body may be behind by half a minute, and never gets ahead by more.

    Raises:
        TooSlowError: when it is behind by more.
    """
    clock = asyncio.get_running_loop().time
    left = _PATIENCE
    while True:
        asked = clock()
        try:
            async with asyncio.timeout(left):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise TooSlowError from None
        if chunk is None:
            return
        left = min(_PATIENCE, left - (clock() - asked) + len(chunk) / rate)
        yield chunk
