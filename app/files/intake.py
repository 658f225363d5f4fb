"""Takes in the files of one request, all of them or none, with little of them in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from app.errors import ConflictError, ServiceError, TooLargeError
from app.file_stores import FileStore, HalfFile, new_name
from app.files.content import Examined, Kind

# What is written at once; each of them costs a few ways to a thread and back.
_BLOCK = 1024 * 1024


class FileTooLargeError(TooLargeError):
    """A file is larger than any may be."""

    code = "file_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"A file may have {limit} bytes at most.")


class QuotaError(ConflictError):
    """The account has no room for so much more."""

    code = "quota_exceeded"

    def __init__(self, quota: int) -> None:
        super().__init__(f"Your files may have {quota} bytes together: delete some first.")


class TooManyFilesError(ConflictError):
    """The account has as many files as it may have."""

    code = "too_many_files"

    def __init__(self, most: int) -> None:
        super().__init__(f"You may have {most} files: delete some first.")


@dataclass(frozen=True)
class Bounds:
    """How much is taken.

    Attributes:
        max_size: Bytes of one file.
        room: Bytes that the account may still have, at the moment.
        quota: Bytes that it may have together.
    """

    max_size: int
    room: int
    quota: int


@dataclass(frozen=True)
class NewFile:
    """A file that is in the store and not yet recorded."""

    stored_as: str
    filename: str
    content_type: str
    size: int
    sha256: str


@dataclass
class _Taken:
    name: str
    filename: str
    content_type: str
    half: HalfFile
    examined: Examined

    def kept(self) -> NewFile:
        """Return what there is to record."""
        examined = self.examined
        return NewFile(self.name, self.filename, self.content_type, examined.size, examined.sha256)


class Intake:
    """The files that come in together."""

    def __init__(self, store: FileStore, bounds: Bounds, stack: AsyncExitStack) -> None:
        self._store = store
        self._bounds = bounds
        self._stack = stack
        self._files: list[_Taken] = []
        self._block = bytearray()
        self._size = self._together = 0
        self._published: list[str] = []

    async def begin(self, filename: str, content_type: str, kind: Kind | None = None) -> None:
        """Begin a file, with which the one before it ends.

        Args:
            filename: What it is called, cleaned.
            content_type: What is said of it.
            kind: What its content must be.
        """
        await self.end()
        name = new_name()
        half = await self._stack.enter_async_context(self._store.begin(name))
        self._files.append(_Taken(name, filename, content_type, half, Examined(kind)))
        self._size = 0

    async def add(self, data: bytes) -> None:
        """Add to the file that was begun last.

        Raises:
            FileTooLargeError: when it is larger than a file may be.
            QuotaError: when all of them need more room than there was in the beginning.
            NotAllowedError: when this cannot be of such a file.
            StorageFullError, StoreDownError: when it cannot be kept.
        """
        self._size += len(data)
        self._together += len(data)
        if self._size > self._bounds.max_size:
            raise FileTooLargeError(self._bounds.max_size)
        if self._together > self._bounds.room:
            raise QuotaError(self._bounds.quota)
        for start in range(0, len(data), _BLOCK):
            self._block += data[start : start + _BLOCK]
            if len(self._block) >= _BLOCK:
                await self._write()

    async def end(self) -> None:
        """End the file that was begun last.

        Raises:
            NotAllowedError: when it is no file of its kind.
            StorageFullError, StoreDownError: when it cannot be kept.
        """
        if self._files:
            await self._write()
            self._files[-1].examined.end()
            await self._files[-1].half.finish()

    async def publish(self) -> list[NewFile]:
        """Let all files be read, under names that nobody knows yet.

        Raises:
            StorageFullError, StoreDownError: when that is not possible.
        """
        await self.end()
        for file in self._files:
            self._published.append(file.name)
            await file.half.publish()
        return [file.kept() for file in self._files]

    def settle(self) -> None:
        """Leave them where they are, whatever happens now."""
        self._published.clear()

    async def remove(self) -> None:
        """Take away again what was published; what cannot be is swept later."""
        if self._published:
            with contextlib.suppress(ServiceError):
                await asyncio.shield(self._store.remove(self._published))

    async def _write(self) -> None:
        if self._block:
            block = bytes(self._block)
            self._block.clear()
            file = self._files[-1]
            await asyncio.to_thread(file.examined.add, block)
            await file.half.write(block)


@asynccontextmanager
async def intake(store: FileStore, bounds: Bounds) -> AsyncIterator[Intake]:
    """Take files in; when this ends by an exception before they are settled, none is left."""
    stack = AsyncExitStack()
    taken = Intake(store, bounds, stack)
    try:
        async with stack:
            yield taken
    except BaseException:
        # Only now does no thread work on them any more.
        await taken.remove()
        raise
