"""The connections on which single statements are read, without a trip to the pool for each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import Pool, PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn


class Readers:
    """Connections of a pool that stay at hand, as long as nobody needs them there.

    To take one out of the pool and to put it back takes longer than to send a statement. Whoever
    wants one, at hand or of the pool, gets it in turn: the pool itself gives a connection to
    whoever asks at the right moment, so that some would wait for ever.
    """

    def __init__(self, pool: Pool, size: int, patience: float) -> None:
        """Know the pool.

        Args:
            pool: Nobody else takes connections of it.
            size: How many there are at most.
            patience: Seconds that somebody waits for one.
        """
        self._pool = pool
        self._turns = asyncio.Semaphore(size)
        self._patience = patience
        self._at_hand: list[PoolProxiedConnection] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def take(self) -> PoolProxiedConnection:
        """Return a connection, which is to be given back or to be cut off.

        Raises:
            sqlalchemy.exc.TimeoutError: when all of them are taken for too long.
        """
        await self._wait()
        try:
            while self._at_hand:
                connection = self._at_hand.pop()
                if not connection.driver_connection.is_closed():  # type: ignore[union-attr]
                    return connection
                connection.invalidate()
                connection.close()
            # The pool may have to connect.
            return await greenlet_spawn(self._pool.connect)
        except BaseException:
            self._turns.release()
            raise

    def give_back(self, connection: PoolProxiedConnection) -> None:
        """Keep a connection at hand; the pool has it when it is no good."""
        if connection.is_valid:
            self._at_hand.append(connection)
        else:
            connection.close()
        self._turns.release()

    def cut_off(self, connection: PoolProxiedConnection) -> None:
        """Close a connection amid a statement, which the server is told to give up first.

        It counts as taken until then, so that the server never has more of them.
        """
        task = asyncio.create_task(self._end(connection))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Let somebody have a connection of the pool.

        Raises:
            sqlalchemy.exc.TimeoutError: when all of them are taken for too long.
        """
        await self._wait()
        try:
            if self._at_hand:
                self._at_hand.pop().close()
            yield
        finally:
            self._turns.release()

    async def close(self) -> None:
        """Give all that are at hand back to the pool."""
        while self._at_hand:
            self._at_hand.pop().close()
        if self._ending:
            await asyncio.wait(list(self._ending))

    async def _wait(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError as error:
            raise PoolTimeoutError("All connections for reading are taken.") from error

    async def _end(self, connection: PoolProxiedConnection) -> None:
        try:
            # In a greenlet it may wait for the driver, which waits for the server.
            await greenlet_spawn(connection.invalidate)
            connection.close()
        finally:
            self._turns.release()
