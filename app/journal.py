"""Log records for the systemd journal, with fields that `journalctl FIELD=value` can find.

Written from the documented protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

import array
import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}

_SEND_TIMEOUT = 0.02
_PAUSE_AFTER_TIMEOUT = 1.0
_INVALID_IN_NAME = re.compile(r"[^A-Z0-9_]")


def runs_under_journal() -> bool:
    """Say whether this process's standard error goes to the journal.

    systemd puts the device and the inode of that stream into `$JOURNAL_STREAM` (systemd.exec(5)).
    """
    stream = os.environ.get("JOURNAL_STREAM", "")
    if not stream or not JOURNAL_SOCKET.exists():
        return False
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


def field_name(key: str) -> str:
    """Turn a key into a valid name of a journal field: at most 64 of `A-Z0-9_`."""
    return _INVALID_IN_NAME.sub("_", key.upper()).lstrip("_0123456789")[:64] or "FIELD"


@lru_cache(1024)
def _encoded_name(key: str) -> bytes:
    return field_name(key).encode()


def encode(fields: Mapping[str, Any]) -> bytes:
    """Encode fields as one datagram of the protocol; values with line breaks get a length."""
    parts = []
    for key, value in fields.items():
        data = str(value).encode("utf-8", "backslashreplace")
        name = _encoded_name(key)
        if b"\n" in data:
            parts.append(name + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name + b"=" + data + b"\n")
    return b"".join(parts)


class JournalSocket:
    """A sender of encoded records that never holds up its caller for long.

    A journal that does not read makes a sender wait. This one waits 20 ms at most, then counts the
    record as lost, does not wait again for a second, and reports the losses with the next record
    that gets through.
    """

    def __init__(self, path: Path = JOURNAL_SOCKET) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        # It is waited for only when it has to be: with a time-out each record takes a poll more.
        self._socket.setblocking(False)  # noqa: FBT003
        self._not_before = 0.0
        self.lost = 0

    def send(self, record: bytes) -> None:
        """Send one record; a failure is counted, never raised, because a log must not fail."""
        try:
            try:
                self._send(record)
            except BlockingIOError:
                self._send_patiently(record)
        except OSError:
            self.lost += 1
        else:
            if self.lost:
                self._report_losses()

    def _send_patiently(self, record: bytes) -> None:
        """Wait for a journal that does not read, unless it was waited for in vain just now."""
        now = time.monotonic()
        if now < self._not_before:
            raise BlockingIOError
        self._socket.settimeout(_SEND_TIMEOUT)
        try:
            self._send(record)
        except TimeoutError:
            self._not_before = now + _PAUSE_AFTER_TIMEOUT
            raise
        finally:
            self._socket.setblocking(False)  # noqa: FBT003

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, record: bytes) -> None:
        try:
            self._socket.sendto(record, self._path)
        except OSError as error:
            if error.errno not in {errno.EMSGSIZE, errno.ENOBUFS}:
                raise
            self._send_as_file(record)

    def _send_as_file(self, record: bytes) -> None:
        """Pass a record that no datagram can hold as a sealed memory file."""
        descriptor = os.memfd_create("journal-record", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(record)
            fcntl.fcntl(
                descriptor,
                fcntl.F_ADD_SEALS,
                fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL,
            )
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            self._socket.sendmsg([b""], [rights], 0, self._path)
        finally:
            os.close(descriptor)

    def _report_losses(self) -> None:
        lost, self.lost = self.lost, 0
        with contextlib.suppress(OSError):
            self._send(
                encode({"MESSAGE": f"{lost} log records were lost.", "PRIORITY": 4, "LOST": lost})
            )
