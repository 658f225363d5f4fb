"""Reads a form with files part by part (RFC 7578), as it comes in."""

import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import BadRequestError

_LONGEST_BOUNDARY = 70
_MOST_HEADERS = 8
_LONGEST_HEADER = 4096
# RFC 7578 forbids it, and .NET sends it beside a name in the form of mail that nobody reads.
_EXTENDED = re.compile(
    r";\s*filename\*\s*=\s*utf-8'[\w-]*'((?:%[0-9a-f]{2}|[\w!#$&+.^`|~-])*)\s*(?:;|$)",
    re.ASCII | re.IGNORECASE,
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)

# Its warnings quote what clients send.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class MalformedFormError(BadRequestError):
    """The body is not what its type says, or ends too early."""

    code = "malformed_form"
    message = "The body is no whole form of the type multipart/form-data."


@dataclass(frozen=True)
class Part:
    """What begins in the form.

    Attributes:
        field: The name of its field.
        filename: As the client says it; None for what is no file.
    """

    field: str
    filename: str | None


def boundary_of(content_type: str) -> bytes | None:
    """Return what is between the parts of a form; nothing when the body is none with parts."""
    try:
        kind, options = parse_options_header(content_type)
    except UnicodeError:
        return None
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        return None
    return boundary


def extended_filename(disposition: str) -> str | None:
    """Return the name in `filename*` (RFC 8187); nothing when there is none that can be read.

    Args:
        disposition: The value of a Content-Disposition.
    """
    found = _EXTENDED.search(_QUOTED.sub('""', disposition))
    if found is None:
        return None
    try:
        return unquote_to_bytes(found[1]).decode()
    except UnicodeDecodeError:
        return None


class _Events:
    """What the parser finds in one piece of the body."""

    def __init__(self) -> None:
        self.found: list[Part | bytes] = []
        self.is_over = False
        self._name = self._value = b""
        self._disposition = b""

    def on_part_begin(self) -> None:
        self._disposition = b""

    def on_header_begin(self) -> None:
        self._name = self._value = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value

    def on_headers_finished(self) -> None:
        disposition = self._disposition.decode("latin-1")
        kind, options = parse_options_header(disposition)
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise MalformedFormError
        filename = extended_filename(disposition)
        plain = options.get(b"filename")
        if filename is None and plain is not None:
            filename = plain.decode(errors="replace")
        self.found.append(Part(name.decode(errors="replace"), filename))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.found.append(data[start:end])

    def on_end(self) -> None:
        self.is_over = True


async def read_form(boundary: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[Part | bytes]:
    """Return each part that begins, and then its bytes.

    Args:
        boundary: What is between the parts.
        chunks: The body, in the pieces in which it comes.

    Raises:
        MalformedFormError: when it is no form, or ends before its end.
    """
    events = _Events()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": events.on_part_begin,
            "on_part_data": events.on_part_data,
            "on_header_begin": events.on_header_begin,
            "on_header_field": events.on_header_field,
            "on_header_value": events.on_header_value,
            "on_header_end": events.on_header_end,
            "on_headers_finished": events.on_headers_finished,
            "on_end": events.on_end,
        },
        max_header_count=_MOST_HEADERS,
        max_header_size=_LONGEST_HEADER,
    )
    async for chunk in chunks:
        try:
            parser.write(chunk)
        except FormParserError as error:
            raise MalformedFormError from error
        found, events.found = events.found, []
        for event in found:
            yield event
        if events.is_over:
            return
    raise MalformedFormError
