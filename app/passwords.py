"""Hashing passwords with Argon2id, without holding up other requests."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher


class Passwords:
    """Hashes and verifies in a few threads of its own.

    Each hash takes 19 MiB and one core for some tens of milliseconds (OWASP's parameters:
    https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html), so a burst of
    logins waits in line here instead of taking the memory and the event loop.
    """

    def __init__(self, threads: int) -> None:
        hasher = Argon2Hasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._hash = PasswordHash((hasher,))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="passwords")

    async def hash(self, password: str) -> str:
        """Return the hash to store."""
        return await self._run(self._hash.hash, password)

    async def verify(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        """Check a password; without a stored hash the answer is no, after the same work.

        Returns:
            Whether it is right, and a new hash to store when the parameters have changed.
        """
        if stored is None:
            await self.hash(password)
            return False, None
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, self._hash.verify_and_update, password, stored
        )

    def close(self) -> None:
        """End the threads; what waits in line is given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, function: Callable[[str], str], password: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, password)
