"""All that the journal knows of one request: Nginx's line and the service's, by time."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from slipway_release.errors import FailedError, RefusedError
from slipway_release.settings import Settings

# What Nginx lets through as X-Request-ID; none of it means anything to a regular expression but
# the dot, which is escaped.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{5,127}")
# The access log is written at a request's end, which a slow client can put off.
_AROUND_SECONDS = 600
_MICROSECONDS = 1_000_000


@dataclasses.dataclass(frozen=True, order=True)
class Line:
    """One record of the journal.

    Attributes:
        time: Unix time in microseconds.
        source: Who wrote it.
        message: What it says.
    """

    time: int
    source: str
    message: str

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.time / _MICROSECONDS, tz=timezone.utc)
        return f"{when:%Y-%m-%d %H:%M:%S.%f} UTC  {self.source}  {self.message}"


def lines(settings: Settings, identity: str) -> list[Line]:
    """Return the lines of one request, oldest first.

    Raises:
        RefusedError: The text cannot be an identity of a request.
        FailedError: Nothing is known of it, or the journal cannot be read.
    """
    if _ID.fullmatch(identity) is None:
        raise RefusedError(
            f"{identity!r} is not the identity of a request: 6 to 128 of A-Z a-z 0-9 . _ -"
        )
    service = list(_read(f"REQUEST_ID={identity}"))
    around: list[str] = []
    if service:
        first, last = min(service).time, max(service).time
        around = [
            f"--since=@{first // _MICROSECONDS - 1}",
            f"--until=@{last // _MICROSECONDS + _AROUND_SECONDS}",
        ]
    pattern = identity.replace(".", r"\.")
    nginx = _read("--identifier=nginx", f"--grep={pattern}", "--case-sensitive=yes", *around)
    found = sorted({*service, *nginx})
    if not found:
        raise FailedError(f"The journal knows no request {identity} of {settings.app}.")
    return found


def _read(*arguments: str) -> Iterator[Line]:
    command = ["journalctl", "--quiet", "--output=json", "--no-pager", *arguments]
    answer = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    # With --grep journalctl ends with 1 when nothing matches.
    if answer.returncode and answer.stderr.strip():
        raise FailedError(f"The journal cannot be read: {answer.stderr.strip().splitlines()[0]}")
    for text in answer.stdout.splitlines():
        fields: dict[str, Any] = json.loads(text)
        source = fields.get("SYSLOG_IDENTIFIER") or fields.get("_SYSTEMD_UNIT") or "?"
        yield Line(int(fields["__REALTIME_TIMESTAMP"]), str(source), _text(fields.get("MESSAGE")))


def _text(message: object) -> str:
    """Return a message as text; journalctl gives a list of bytes for one that is not UTF-8."""
    if isinstance(message, list) and all(isinstance(part, int) for part in message):
        return bytes(message).decode(errors="replace")
    return str(message)
