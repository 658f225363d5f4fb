"""What a store of files does: it knows names that the service makes up, and no owners."""

import re
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from app.errors import NotFoundError, UnavailableError

_NAME_BYTES = 16
_NAME = re.compile(r"[0-9a-f]{32}")


class LostFileError(NotFoundError):
    """The store does not have what it should."""

    code = "file_lost"
    message = "The content of this file is not there any more."


class StoreDownError(UnavailableError):
    """The store of files does not work at the moment."""

    code = "store_unavailable"
    message = "Files cannot be kept or read at the moment: try again in a few seconds."


def new_name() -> str:
    """Return a name that nobody can guess and nothing of a client is in."""
    return secrets.token_hex(_NAME_BYTES)


def is_name(text: str) -> bool:
    """Say whether it could be a name of ours: what else lies about is nobody's to take away."""
    return _NAME.fullmatch(text) is not None


def place_of(name: str) -> str:
    """Return where a file is among those that are published: no folder gets too full."""
    return f"{name[:2]}/{name}"


class HalfFile(Protocol):
    """A file that is being written, and that nobody can read."""

    async def write(self, data: bytes) -> None:
        """Add to it.

        Raises:
            StorageFullError: when there is no room for it.
            StoreDownError: when the store does not work.
        """

    async def finish(self) -> None:
        """Say that it is whole, and make sure that it will outlive a loss of power.

        Raises:
            StorageFullError, StoreDownError: as above.
        """

    async def publish(self) -> None:
        """Let it be read under its name, at once and whole; the leaving of the context keeps it.

        Raises:
            StorageFullError, StoreDownError: as above.
        """


class FileStore(Protocol):
    """Keeps files under the names of `new_name`.

    Attributes:
        settles_after: Seconds after which nobody is about to record a file that is published.
    """

    settles_after: float

    async def check(self) -> None:
        """Make sure that it is there and lets us in, before anybody needs it.

        Raises:
            StoreDownError: when it does not; the cause says why.
        """

    async def check_room(self, size: int) -> None:
        """Refuse what there is no room for, before it is sent.

        Raises:
            StorageFullError: when so many bytes would fill the store.
            StoreDownError: when the store does not work.
        """

    def begin(self, name: str) -> AbstractAsyncContextManager[HalfFile]:
        """Begin a file; at the end of the context nothing is left of it unless it is published."""

    async def read(self, name: str, start: int, stop: int) -> bytes:
        """Return the bytes from one place up to another of a file that has them.

        Raises:
            LostFileError: when there is no such file.
            StoreDownError: when the store does not work.
        """

    async def remove(self, names: Sequence[str]) -> None:
        """Take files away; those that are not there are no error.

        Raises:
            StoreDownError: when the store does not work.
        """

    def list_older(self, seconds: float) -> AsyncIterator[Sequence[str]]:
        """Return the names of all files that were published so long ago, in parts."""

    async def remove_halves(self, seconds: float) -> int:
        """Take away what writers that have ended left so long ago; return how many."""

    def close(self) -> None:
        """Give everything back."""
