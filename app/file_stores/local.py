"""Files in a folder of this host.

`incoming/` holds what is being written, for the service alone. `published/<2 hex>/<name>` holds
what is whole: its group may read it, which is Nginx's. The group comes from the setgid bit of the
folder, which new entries inherit. The sandbox of the service lets it set neither, and a chmod takes
the bit away; so folders are made in `incoming/`, which keeps it, and moved.
"""

import asyncio
import contextlib
import errno
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from app.errors import StorageFullError
from app.file_stores.contract import LostFileError, StoreDownError, is_name, place_of
from app.file_stores.half import LocalHalf, remove_half
from app.log import get_logger

_THREADS = 4
# Entries of the file system that stay free for others, such as the database and its log.
_SPARE_ENTRIES = 1000
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FOLDER_MODE, _PRIVATE_MODE = 0o750, 0o700
_PREFIXES = [f"{number:02x}" for number in range(256)]

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the system says into what a caller can act on."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError from error
        get_logger().error("files.store_failed", message=f"The folder of files: {error}.")
        raise StoreDownError from error


class LocalStore:
    """Keeps files in a folder, with threads of its own for what waits for the disk."""

    # A file waits, locked, in `incoming/` until its whole request has come: to be recorded after
    # that takes no longer than a transaction.
    settles_after = 3600.0

    def __init__(self, folder: Path, reserve: int) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._published = folder / "published"
        self._reserve = reserve
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")

    async def check(self) -> None:
        """Make sure that the folder is there."""
        await self.run(os.statvfs, self._folder)

    async def check_room(self, size: int) -> None:
        """Refuse what the disk has no room for."""
        await self.run(self.look, size)

    @asynccontextmanager
    async def begin(self, name: str) -> AsyncIterator["_Writing"]:
        """Begin a file."""
        half = LocalHalf(self._incoming / name)
        try:
            await self.run(self._open, half)
            yield _Writing(self, half)
        finally:
            # Whoever is cancelled must not leave it open.
            await asyncio.shield(self.run(half.close))

    async def read(self, name: str, start: int, stop: int) -> bytes:
        """Return a part of a file."""
        return await self.run(self._read, name, start, stop)

    async def remove(self, names: Sequence[str]) -> None:
        """Take files away."""
        await self.run(self._remove, names)

    async def list_older(self, seconds: float) -> AsyncIterator[Sequence[str]]:
        """Return what was published so long ago, folder by folder."""
        before = time.time() - seconds
        for prefix in _PREFIXES:
            names = await self.run(self._list, prefix, before)
            if names:
                yield names

    async def remove_halves(self, seconds: float) -> int:
        """Take away what nobody writes any more."""
        return await self.run(self._remove_halves, time.time() - seconds)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False)

    async def run(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Do in a thread what waits for the disk.

        Raises:
            StorageFullError, StoreDownError: for what the system says.
        """
        with _translated():
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, function, *arguments)

    def look(self, size: int) -> None:
        """Refuse to use what is to stay free.

        Raises:
            StorageFullError: when so many bytes more would.
        """
        found = os.statvfs(self._folder)
        # Some file systems have no table of files that could be full.
        entries_end = found.f_files and found.f_favail < _SPARE_ENTRIES
        if entries_end or found.f_bavail * found.f_frsize - size < self._reserve:
            raise StorageFullError

    def publish(self, half: LocalHalf) -> None:
        """Move a file that is whole to where it is read."""
        target = self._published / place_of(half.name)
        self._make_folder(target.parent)
        half.move(target)
        _sync(target.parent)

    def _open(self, half: LocalHalf) -> None:
        self._incoming.mkdir(_PRIVATE_MODE, exist_ok=True)
        half.open()

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder != self._published:
            self._make_folder(self._published)
        made = self._incoming / f"folder-{secrets.token_hex(8)}"
        made.mkdir(_PRIVATE_MODE)
        made.chmod(_FOLDER_MODE)
        try:
            # In the place of an empty one this succeeds as well.
            made.rename(folder)
        except OSError as error:
            made.rmdir()
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                raise
        _sync(folder.parent)

    def _read(self, name: str, start: int, stop: int) -> bytes:
        try:
            with (self._published / place_of(name)).open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), stop - start, start)
        except FileNotFoundError as error:
            raise LostFileError from error
        if len(data) != stop - start:
            raise LostFileError
        return data

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            (self._published / place_of(name)).unlink(missing_ok=True)

    def _list(self, prefix: str, before: float) -> list[str]:
        """Name the files of a folder by when they were moved there, which no client can set."""
        return [
            path.name
            for path in _entries(self._published / prefix)
            if is_name(path.name)
            and (found := _status(path)) is not None
            and found.st_ctime <= before
        ]

    def _remove_halves(self, before: float) -> int:
        count = 0
        for path in _entries(self._incoming):
            try:
                found = _status(path)
                count += found is not None and found.st_mtime <= before and remove_half(path)
            except OSError as error:
                # The others need not wait for it.
                message = f"An upload that has ended stays in incoming/: {error}."
                get_logger().warning("files.left_behind", message=message)
        return count


class _Writing:
    """A file that is being written, for the event loop."""

    def __init__(self, store: LocalStore, half: LocalHalf) -> None:
        self._store = store
        self._half = half

    async def write(self, data: bytes) -> None:
        """Add to it, if what stays free is not touched."""
        await self._store.run(self._write, data)

    async def finish(self) -> None:
        """Bring it onto the disk."""
        await self._store.run(self._half.sync)

    async def publish(self) -> None:
        """Let it be read."""
        await self._store.run(self._store.publish, self._half)

    def _write(self, data: bytes) -> None:
        self._store.look(len(data))
        self._half.write(data)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _status(path: Path) -> os.stat_result | None:
    """Return what the system knows of a file, which somebody may have taken away meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat()
    return None


def _sync(folder: Path) -> None:
    """Make sure that a folder's entries outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
