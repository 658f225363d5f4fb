"""Changes to the disk that are whole or absent after a power cut.

A rename is atomic, but it is on the disk only when its directory is: see rename(2), fsync(2).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Bring the entries of a directory to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(directory: Path) -> None:
    """Bring everything that was written below a directory to the disk, with one call.

    Python has no syncfs(2); coreutils does.
    """
    subprocess.run(["sync", "--file-system", str(directory)], check=True)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file by new contents, atomically.

    The temporary name is fixed: the lock makes its writer the only one, and a leftover of a
    crash is overwritten.
    """
    temporary = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove a file or link that may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync_directory(path.parent)


def point(link: Path, target: str) -> None:
    """Make a symbolic link lead to a target, replacing the old one by one rename."""
    temporary = link.with_name(f".{link.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(target)
    temporary.replace(link)
    sync_directory(link.parent)


def append_line(path: Path, line: str) -> None:
    """Add one line to a file and bring it to the disk.

    A line that a power cut left half written is ended first, so that it spoils only itself.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (("\n" if torn else "") + line + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
