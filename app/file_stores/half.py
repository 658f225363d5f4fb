"""One file of a folder while it is being written, for the threads of its store."""

import contextlib
import fcntl
import os
import threading
from pathlib import Path

_FILE_MODE, _PRIVATE_MODE = 0o640, 0o600


class LocalHalf:
    """A file that its writer keeps locked, so that a sweep of another process spares it.

    A thread may still write when whoever asked for that was cancelled and closes the file. So they
    take turns: the number of a file that is closed is given to another one.

    Attributes:
        name: What it is to be called.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        self._turn = threading.Lock()
        self._descriptor = -1
        self._moved = self._closed = False

    def open(self) -> None:
        """Make it.

        Raises:
            OSError: when that is not possible.
        """
        with self._turn:
            if not self._closed:
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
                self._descriptor = os.open(self._path, flags, _PRIVATE_MODE)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def write(self, data: bytes) -> None:
        """Add to it.

        Raises:
            OSError: when that is not possible.
        """
        with self._turn:
            view = memoryview(data)
            while view and not self._closed:
                view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        """Bring it onto the disk, with the mode that it is read with.

        Raises:
            OSError: when that is not possible; some file systems notice only now
                that they are full.
        """
        with self._turn:
            if not self._closed:
                os.fchmod(self._descriptor, _FILE_MODE)
                os.fsync(self._descriptor)

    def move(self, target: Path) -> None:
        """Move it to where it is read.

        Raises:
            OSError: when that is not possible.
        """
        with self._turn:
            if not self._closed:
                self._path.rename(target)
                self._moved = True

    def close(self) -> None:
        """End the writing; what was not moved is taken away."""
        with self._turn:
            self._closed = True
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
                if not self._moved:
                    self._path.unlink(missing_ok=True)


def remove_half(path: Path) -> bool:
    """Take away what lies in `incoming/`, unless somebody still writes it; say whether it is gone.

    Raises:
        OSError: when that is not possible.
    """
    if path.is_dir():
        with contextlib.suppress(OSError):
            path.rmdir()
        return not path.exists()
    try:
        # A network file system gives this lock to those only who may write.
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
    except (BlockingIOError, FileNotFoundError):
        # Somebody writes it, or has just ended.
        return False
    return True
