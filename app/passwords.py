"""Hashing passwords with Argon2id, without holding up other requests."""

import asyncio
import contextlib
import fcntl
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from app.errors import UnavailableError

_Result = TypeVar("_Result")


class Turns:
    """Lets the workers of a release together hash on all processors but one.

    Their event loops share the processors with the hashes: where all of them hash, each other
    request waits for one of them to end.
    """

    def __init__(self, folder: Path | None, processors: int) -> None:
        """Take turns by locks in a folder of the release; without one nobody waits."""
        number = max(1, processors - 1) if folder else 0
        self._paths = [folder / f"passwords-{one}.lock" for one in range(number)] if folder else []

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for a turn and hold it; the kernel gives back what a dead worker held."""
        with contextlib.ExitStack() as stack:
            # Without its folder, which goes with the unit, everybody passes: nobody is kept out.
            with contextlib.suppress(OSError):
                files = [stack.enter_context(path.open("ab")) for path in self._paths]
                random.shuffle(files)
                if files and not any(_lock(file, fcntl.LOCK_NB) for file in files):
                    _lock(files[0], 0)
            yield


def _lock(file: IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | how)
    except BlockingIOError:
        return False
    return True


def turns_of_release() -> Turns:
    """Return the turns of the workers of one unit, by its RuntimeDirectory= (systemd.exec(5))."""
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Turns(Path(folder) if folder else None, len(os.sched_getaffinity(0)))


class Passwords:
    """Hashes and verifies in a few threads of its own.

    Each hash takes 19 MiB and one core for some tens of milliseconds (OWASP's parameters:
    https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html), so a burst of
    logins waits in line here instead of taking the memory and the event loop. The line ends: who
    comes when it is full is told to come back, whether there is such an account or not.
    """

    def __init__(self, threads: int, turns: Turns, longest_line: int | None = None) -> None:
        """Hash nothing yet.

        Args:
            threads: how many are hashed at once.
            turns: those of all workers.
            longest_line: how many may wait for one; as many as come when it is None.
        """
        hasher = Argon2Hasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._hash = PasswordHash((hasher,))
        self._turns = turns
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._most = None if longest_line is None else threads + longest_line
        self._taken_in = 0

    async def hash(self, password: str) -> str:
        """Return the hash to store.

        Raises:
            UnavailableError: when too many wait already.
        """
        return await self._run(self._hash.hash, password)

    async def verify(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        """Check a password; without a stored hash the answer is no, after the same work.

        Returns:
            Whether it is right, and a new hash to store when the parameters have changed.

        Raises:
            UnavailableError: when too many wait already.
        """
        if stored is None:
            await self.hash(password)
            return False, None
        return await self._run(self._hash.verify_and_update, password, stored)

    def close(self) -> None:
        """End the threads; what waits in line is given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, function: Callable[..., _Result], *arguments: str) -> _Result:
        if self._most is not None and self._taken_in >= self._most:
            raise UnavailableError
        # One that is given up while it waits is not hashed, and leaves the line.
        hashing = self._pool.submit(self._in_turn, function, *arguments)
        self._taken_in += 1
        loop = asyncio.get_running_loop()
        hashing.add_done_callback(lambda _: self._let_go(loop))
        return await asyncio.wrap_future(hashing)

    def _let_go(self, loop: asyncio.AbstractEventLoop) -> None:
        # The loop of a worker that ends may be gone before its last hash.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._count_down)

    def _count_down(self) -> None:
        self._taken_in -= 1

    def _in_turn(self, function: Callable[..., _Result], *arguments: str) -> _Result:
        with self._turns.taken():
            return function(*arguments)
