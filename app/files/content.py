"""Which files are taken: those whose name and whose content both say that they are of a kind.

Nothing that a browser would run is among them: no HTML, no SVG, no XML.
"""

import codecs
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import BadRequestError

# As many bytes as the longest signature needs.
_HEAD = 16


class NotAllowedError(BadRequestError):
    """A file of a kind that is not taken, or that is not what its name says."""

    code = "file_not_allowed"


@dataclass(frozen=True)
class Kind:
    """A kind of files.

    Attributes:
        content_type: As it is given back.
        begins: Tells it by its first bytes; nothing for a text, which is UTF-8 without NUL.
    """

    content_type: str
    begins: Callable[[bytes], bool] | None


def _signature(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(signatures)


def _is_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def _is_mp4(head: bytes) -> bool:
    return head[4:8] == b"ftyp"


_JPEG = Kind("image/jpeg", _signature(b"\xff\xd8\xff"))
KINDS = {
    "png": Kind("image/png", _signature(b"\x89PNG\r\n\x1a\n")),
    "jpg": _JPEG,
    "jpeg": _JPEG,
    "gif": Kind("image/gif", _signature(b"GIF87a", b"GIF89a")),
    "webp": Kind("image/webp", _is_webp),
    "pdf": Kind("application/pdf", _signature(b"%PDF-")),
    # An archive without anything in it begins with its end.
    "zip": Kind("application/zip", _signature(b"PK\x03\x04", b"PK\x05\x06")),
    "gz": Kind("application/gzip", _signature(b"\x1f\x8b\x08")),
    "mp4": Kind("video/mp4", _is_mp4),
    "txt": Kind("text/plain", None),
    "csv": Kind("text/csv", None),
    "json": Kind("application/json", None),
}


def kind_of(filename: str) -> Kind:
    """Return the kind that the end of a name says.

    Raises:
        NotAllowedError: when it is none that is taken.
    """
    stem, dot, suffix = filename.rpartition(".")
    kind = KINDS.get(suffix.lower()) if stem and dot else None
    if kind is None:
        listed = ", ".join(sorted(KINDS))
        raise NotAllowedError(f"Files of this kind are not taken; these are: {listed}.")
    return kind


class Examined:
    """What is learned of a file while it comes in; each call may take milliseconds.

    Attributes:
        size: Bytes that it has so far.
    """

    def __init__(self, kind: Kind | None) -> None:
        self.size = 0
        self._kind = kind
        self._head = b""
        self._hash = hashlib.sha256()
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    @property
    def sha256(self) -> str:
        """The checksum of what has come."""
        return self._hash.hexdigest()

    def add(self, data: bytes) -> None:
        """Look at the next bytes.

        Raises:
            NotAllowedError: when they cannot be of such a file.
        """
        self._hash.update(data)
        self.size += len(data)
        if self._kind is None:
            return
        if self._kind.begins is None:
            self._check_text(data)
        elif len(self._head) < _HEAD:
            self._head += data[: _HEAD - len(self._head)]
            if len(self._head) == _HEAD:
                self._check_head(self._kind.begins)

    def end(self) -> None:
        """Look at the whole.

        Raises:
            NotAllowedError: when it is no such file.
        """
        if self._kind is None:
            return
        if self._kind.begins is None:
            self._check_text(b"", final=True)
        else:
            self._check_head(self._kind.begins)

    def _check_head(self, begins: Callable[[bytes], bool]) -> None:
        if not begins(self._head):
            raise NotAllowedError("The content of the file is not of the kind that its name says.")

    def _check_text(self, data: bytes, *, final: bool = False) -> None:
        try:
            self._decoder.decode(data, final)
        except UnicodeDecodeError:
            raise NotAllowedError("The file is no text in UTF-8.") from None
        if b"\0" in data:
            raise NotAllowedError("The file is no text: there is a NUL in it.")
