"""What an answer holds, and the tag by which clients know whether they have it already."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson

from app.errors import PreconditionFailedError

_TAG_BYTES = 16


@dataclass(frozen=True)
class Entity:
    """The JSON of one thing.

    Attributes:
        body: The bytes that clients get.
        tag: Made of the bytes, so that it changes with each thing that a client could see: an
            entity tag of RFC 9110, section 8.8.3, without its quotes.
    """

    body: bytes
    tag: str

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Write the JSON."""
        body = orjson.dumps(content, option=orjson.OPT_UTC_Z)
        return cls(body, hashlib.blake2b(body, digest_size=_TAG_BYTES).hexdigest())

    def packed(self) -> bytes:
        """Return both in one piece, for a store."""
        return self.tag.encode() + self.body

    @classmethod
    def unpacked(cls, piece: bytes) -> Self:
        """Return what `packed` made a piece of."""
        return cls(piece[2 * _TAG_BYTES :], piece[: 2 * _TAG_BYTES].decode())


@dataclass(frozen=True)
class Precondition:
    """Which state of a thing the client wants to change (If-Match, RFC 9110, section 13.1.1).

    Attributes:
        tags: Those of the states; nothing when any will do.
    """

    tags: frozenset[str] | None = None

    def check(self, entity: Entity) -> None:
        """Compare with the state that is about to change.

        Raises:
            PreconditionFailedError: when somebody has changed it meanwhile.
        """
        if self.tags is not None and entity.tag not in self.tags:
            raise PreconditionFailedError
