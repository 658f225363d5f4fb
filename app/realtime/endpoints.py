"""Live messages over HTTP and WebSocket (RFC 6455)."""

import re
import time
from typing import Annotated

import structlog
from fastapi import Request
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from app.access import require_session
from app.accounts import Identity
from app.dependencies import WorkerResources, is_foreign
from app.errors import BadRequestError, ForbiddenError
from app.log import get_logger
from app.origins import origin_of
from app.realtime.schemas import TicketView
from app.realtime.service import InvalidTicketError, Live
from app.realtime.sockets import FLOOD, TOO_MUCH, Ending, Socket
from app.resources import Resources
from app.routing import API, router_of
from app.socket_routes import SocketRoute

PROTOCOL = "harbour.v1"
PATH = "/ws/{client_id}"
_TICKET = "ticket."
_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

router = router_of(f"{API}/realtime", "realtime")


class BadClientIdError(BadRequestError):
    """A client gives itself a name that is none."""

    code = "bad_client_id"
    message = "A client_id has 1 to 64 letters, digits, dots, dashes and underscores of ASCII."


class ProtocolMissingError(BadRequestError):
    """A client does not speak what is spoken here."""

    code = "protocol_missing"
    message = f"Offer the sub-protocol {PROTOCOL} beside ticket.<your ticket>."


class ForeignOriginError(ForbiddenError):
    """A page of somebody else makes a browser open a WebSocket."""

    code = "foreign_origin"
    message = "Pages of this origin may not open a WebSocket here."


@router.post("/ticket")
async def create_ticket(
    request: Request,
    identity: Annotated[Identity, require_session()],
    resources: WorkerResources,
) -> TicketView:
    """Give a ticket that opens one WebSocket, `/ws/{client_id}`, as the caller's session."""
    live: Live = request.app.state.live
    ticket = await live.issue_ticket(identity)
    seconds = resources.settings.websocket_ticket_seconds
    return TicketView(ticket=ticket, expires_in=seconds, protocol=PROTOCOL)


async def open_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Let a client with a ticket into the room, until one of both ends it."""
    connection = HTTPConnection(scope)
    resources: Resources = connection.app.state.resources
    live: Live = connection.app.state.live
    client_id: str = connection.path_params["client_id"]
    if not _CLIENT_ID.fullmatch(client_id):
        raise BadClientIdError
    if is_foreign(connection, resources, resources.settings.websocket_origins):
        raise ForeignOriginError
    grant = await live.redeem(_ticket_of(scope))
    # Whoever is refused from here on is known.
    connection.state.user_id = grant.user_id
    structlog.contextvars.bind_contextvars(user_id=grant.user_id)
    async with live.admitted(grant, client_id) as socket:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL, "headers": []})
        started = time.perf_counter()
        client = connection.client.host if connection.client else None
        about = {"client_id": client_id, "client_address": client}
        log = get_logger()
        log.info("websocket.opened", message=f"WebSocket of {client_id} opened.", **about)
        ending = await live.talk(socket, receive, send)
        _log_end(socket, ending, time.perf_counter() - started, about)
        if ending in (FLOOD, TOO_MUCH):
            what, origin = f"WEBSOCKET {PATH}", origin_of(connection)
            await resources.refusals.note("limit.exceeded", what, origin, socket.member.user_id)


def _ticket_of(scope: Scope) -> str:
    """Return the ticket, which no log of a proxy shows as it would an address.

    Raises:
        ProtocolMissingError: when the client does not offer to speak our protocol.
        InvalidTicketError: when it brings no ticket, or several.
    """
    offered: list[str] = scope["subprotocols"]
    if PROTOCOL not in offered:
        raise ProtocolMissingError
    tickets = [word.removeprefix(_TICKET) for word in offered if word.startswith(_TICKET)]
    if len(tickets) != 1:
        raise InvalidTicketError
    return tickets[0]


def _log_end(socket: Socket, ending: Ending, seconds: float, about: dict[str, str | None]) -> None:
    client_id = socket.member.client_id
    get_logger().info(
        "websocket.closed",
        message=f"WebSocket of {client_id} closed: {ending.code} after {seconds:.1f} s.",
        websocket_code=ending.code,
        websocket_seconds=round(seconds, 2),
        websocket_received=socket.received,
        websocket_sent=socket.sent,
        **about,
    )


sockets = [SocketRoute(PATH, open_socket, access="ticket")]
