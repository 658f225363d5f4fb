"""What the server says: JSON texts, each encoded once for all who get it."""

from typing import Any, NamedTuple

import orjson


class Frame(NamedTuple):
    """A text on its way to clients.

    Attributes:
        message: of ASGI, shared by all sockets that it goes to: nobody changes it.
        size: in bytes.
    """

    message: dict[str, Any]
    size: int


def frame_of(text: str) -> Frame:
    """Return a text as what a server takes to send it."""
    return Frame({"type": "websocket.send", "text": text}, len(text.encode()))


def _text(**members: str) -> str:
    return orjson.dumps(members).decode()


def connected(client_id: str) -> str:
    """Welcome a client."""
    return _text(type="connected", client_id=client_id, message=f"Welcome, {client_id}!")


def message(client_id: str, content: str) -> str:
    """Tell what a client has said, to itself and to all others."""
    return _text(
        type="message", client_id=client_id, content=content, echo=f"Server received: {content}"
    )


def disconnected(client_id: str) -> str:
    """Tell the others that a client has left."""
    return _text(type="disconnected", client_id=client_id, message=f"{client_id} has left.")


def unreachable() -> str:
    """Tell that those on other workers are not reached."""
    return _text(
        type="notice",
        code="others_unreachable",
        message="Messages do not reach everybody at the moment.",
    )


def reachable() -> str:
    """Tell that everybody is reached again."""
    return _text(type="notice", code="others_reachable", message="Messages reach everybody again.")
