"""Records in the system's journal, with fields that can be searched, and lines out of it.

The datagram format is https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
from collections.abc import Mapping

_SOCKET = "/run/systemd/journal/socket"
# Beyond this a record must be handed over as a file; no record of ours comes near.
_LONGEST_VALUE = 16_000
# Some 0.2 s of reading.
_MOST_RECORDS = 20_000
_PATIENCE_SECONDS = 5
INFO, WARNING, ERROR = 6, 4, 3


def encode(fields: Mapping[str, object]) -> bytes:
    """Encode the fields of one record."""
    record = b""
    for name, value in fields.items():
        data = str(value).encode()[:_LONGEST_VALUE]
        if b"\n" in data:
            record += name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
        else:
            record += name.encode() + b"=" + data + b"\n"
    return record


def send(message: str, priority: int = INFO, **fields: object) -> None:
    """Write one record; where there is no journal it is left out.

    A release must not fail because its story cannot be told.
    """
    record = encode(
        {"MESSAGE": message, "PRIORITY": priority, "SYSLOG_IDENTIFIER": "slipway", **fields}
    )
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(record, _SOCKET)


def last_lines(unit: str, since: float, count: int = 60) -> tuple[str, ...]:
    """Return the last lines of a unit since a Unix time, oldest first.

    Restarts change the invocation of a unit, so the unit and the time select the lines.
    """
    try:
        subprocess.run(["journalctl", "--sync"], check=False, capture_output=True, timeout=5)
        answer = subprocess.run(
            [
                "journalctl",
                "--quiet",
                "--output=cat",
                f"--unit={unit}",
                # With --lines as well, some versions would tell the first lines after that time.
                f"--since=@{int(since)}",
            ],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return (f"(the journal of {unit} could not be read: {error})",)
    return tuple(line for line in answer.stdout.splitlines() if line.strip())[-count:]


def between(since: float, until: float, *arguments: str) -> list[str]:
    """Return what journalctl(1) prints for a span of time, at most so much of it as is quick.

    A journal that cannot be read holds nothing: nobody's release depends on it.

    Args:
        since: Unix time.
        until: Unix time.
        arguments: Matches, and the form of the output.
    """
    span = (f"--since=@{since:.6f}", f"--until=@{until:.6f}", f"--lines={_MOST_RECORDS}")
    try:
        answer = subprocess.run(
            ["journalctl", "--quiet", "--no-pager", *span, *arguments],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return answer.stdout.splitlines()
