"""The one room of live messages: who is in it, and what they hear.

A worker hands a text to its own clients at once and to the other workers by the bus. So each
client hears what another one says in its order; the order between two who speak at the same time
may differ from worker to worker.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol

from app import metrics
from app.accounts import Identity
from app.cache import Cache
from app.error_reports import ErrorReports
from app.errors import NotAuthenticatedError, UnavailableError
from app.log import get_logger
from app.opaque_tokens import new_token
from app.realtime import frames
from app.realtime.allowances import Allowances
from app.realtime.bus import Bus, EndingsTeller
from app.realtime.desk import Desk, Grant, OwnDesk, SharedDesk
from app.realtime.leaving import Leaving
from app.realtime.sockets import (
    RESTART,
    SESSION_ENDED,
    TOO_MUCH,
    Ending,
    Member,
    Receive,
    Send,
    Socket,
)
from app.realtime.turns import Turns
from app.settings import Settings

_PREFIX = "hwt_"
# What is handed out before those who write to the clients get their turn: so many bytes, and of the
# messages that may wait for a client this share.
_AT_ONCE_BYTES = 65_536
_AT_ONCE_SHARE = 4


class KnowsSessions(Protocol):
    """Knows which sessions go on."""

    def going_on(self, session_ids: Iterable[int]) -> Awaitable[frozenset[int]]:
        """Return those of the sessions that go on, with accounts that are active."""


class InvalidTicketError(NotAuthenticatedError):
    """A ticket is unknown, was used before or has expired, or its session has ended."""

    code = "invalid_ticket"
    message = "The ticket is not valid: get another one."


class Live:
    """Live messages of one worker. Making it connects to nothing."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache,
        sessions: KnowsSessions,
        error_reports: ErrorReports,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._error_reports = error_reports
        self._desk: Desk = SharedDesk(cache) if cache.configured else OwnDesk()
        self._leaving = Leaving(self._desk, error_reports)
        self._bus = Bus(settings, cache, self, error_reports)
        self._teller = EndingsTeller(cache)
        self._sockets: dict[str, Socket] = {}
        self._of_session: dict[int, set[Socket]] = {}
        self._allowances = Allowances(settings)
        self._turns = Turns(max(1, settings.websocket_queue // _AT_ONCE_SHARE), _AT_ONCE_BYTES)
        self._looking: asyncio.Task[None] | None = None
        self._look_now = asyncio.Event()

    async def start(self) -> None:
        """Begin to listen to the other workers."""
        await self._bus.start()
        self._leaving.start()
        self._looking = asyncio.create_task(self._look_again())

    async def stop(self) -> None:
        """Stop listening; the server below has closed the sockets."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._bus.stop()
        await self._leaving.stop()

    async def issue_ticket(self, identity: Identity) -> str:
        """Return a ticket that opens one WebSocket, within `websocket_ticket_seconds`.

        Raises:
            UnavailableError: when the store is away, where all workers look for it.
        """
        assert identity.session_id is not None  # noqa: S101 - the route has asked for a session
        ticket = new_token(_PREFIX)
        grant = Grant(identity.account.id, identity.session_id)
        await self._desk.keep(ticket, grant, self._settings.websocket_ticket_seconds)
        return ticket

    async def redeem(self, ticket: str) -> Grant:
        """Return what a ticket stands for; it is used up whatever comes of it.

        Raises:
            InvalidTicketError: when the ticket is not good.
            UnavailableError: when the store is away.
        """
        grant = await self._desk.redeem(ticket)
        if grant is None:
            raise InvalidTicketError
        return grant

    @contextlib.asynccontextmanager
    async def admitted(self, grant: Grant, client_id: str) -> AsyncIterator[Socket]:
        """Give a place in the room for a ticket that was redeemed.

        Raises:
            InvalidTicketError: when its session has ended.
            TooManySocketsError: when the account has as many as it may have.
            ClientIdTakenError: when another account is there under this name.
            UnavailableError: when the store or the database is away, or this worker is full.
        """
        if len(self._sockets) >= self._settings.websockets_per_worker:
            raise UnavailableError
        member = Member(client_id, grant.user_id, grant.session_id, secrets.token_hex(8))
        await self._desk.take(member, self._settings.websockets_per_account)
        now = asyncio.get_running_loop().time()
        budget, messages = self._allowances.opened(grant.user_id, now)
        socket = Socket(member, self._settings, budget, messages)
        socket.offer(frames.frame_of(frames.connected(client_id)))
        if not self._bus.up:
            socket.offer(frames.frame_of(frames.unreachable()))
        # Before the session is looked at: so its end, which may come just now, finds the socket.
        self._add(socket)
        try:
            if grant.session_id not in await self._sessions.going_on([grant.session_id]):
                raise InvalidTicketError
            yield socket
        finally:
            self._remove(socket)
            self._allowances.closed(grant.user_id, messages)
            self._leaving.add(member)

    async def talk(self, socket: Socket, receive: Receive, send: Send) -> Ending:
        """Talk with a client until one of both ends it; then tell the others."""
        metrics.WEBSOCKETS.inc()
        try:
            ending = await socket.run(receive, send, self._say)
        finally:
            metrics.WEBSOCKETS.dec()
            self._remove(socket)
        metrics.observe_close(ending.code)
        # When a release is replaced all leave and come back, and none would be helped by the news.
        if ending.code != RESTART:
            await self._turns.wait()
            text = frames.disconnected(socket.member.client_id)
            self._tell(text, frames.frame_of(text))
        return ending

    async def end_sessions(self, session_ids: Iterable[int]) -> None:
        """Close the sockets of sessions that have ended, on every worker."""
        ended = list(session_ids)
        self.end_here(ended)
        await self._teller.tell(ended)

    def end_here(self, session_ids: Iterable[int]) -> None:
        """Close the sockets of sessions that have ended."""
        for session_id in session_ids:
            for socket in self._of_session.get(session_id, ()):
                socket.end(SESSION_ENDED)

    def deliver(self, text: str) -> None:
        """Hand a text to the clients of this worker."""
        self._hand_out(frames.frame_of(text))

    def connection_changed(self, *, up: bool) -> None:
        """Tell the clients whether those of other workers are reached."""
        self.deliver(frames.reachable() if up else frames.unreachable())
        if up:
            # A store that was restarted knows no places: others could take the names meanwhile.
            self._look_now.set()

    def _hand_out(self, frame: frames.Frame) -> None:
        for socket in self._sockets.values():
            socket.offer(frame)
        metrics.WEBSOCKET_MESSAGES.labels("out").inc(len(self._sockets))

    def _tell(self, text: str, frame: frames.Frame) -> None:
        """Tell all on every worker, when it is the turn for it."""
        self._hand_out(frame)
        self._bus.publish(text, frame.size)
        self._turns.count(frame.size)

    async def _say(self, socket: Socket, content: str) -> None:
        """Tell all what a client says."""
        metrics.WEBSOCKET_MESSAGES.labels("in").inc()
        await self._turns.wait()
        text = frames.message(socket.member.client_id, content)
        frame = frames.frame_of(text)
        if socket.budget.take(asyncio.get_running_loop().time(), frame.size):
            self._tell(text, frame)
        else:
            socket.end(TOO_MUCH)

    def _add(self, socket: Socket) -> None:
        self._sockets[socket.member.connection_id] = socket
        self._of_session.setdefault(socket.member.session_id, set()).add(socket)

    def _remove(self, socket: Socket) -> None:
        if self._sockets.pop(socket.member.connection_id, None) is None:
            return
        of_session = self._of_session[socket.member.session_id]
        of_session.discard(socket)
        if not of_session:
            del self._of_session[socket.member.session_id]

    async def _look_again(self) -> None:
        """Find what was not told: sessions that have ended, places that run out."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.websocket_recheck_seconds):
                    await self._look_now.wait()
            self._look_now.clear()
            self._allowances.forget_full(asyncio.get_running_loop().time())
            # One may be away without the other: places run out also while the database is.
            for look in (self._end_ended, self._renew):
                await self._try_to(look)

    async def _try_to(self, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except UnavailableError:
            # What is away comes back; until then the sockets stay.
            pass
        except Exception as error:  # noqa: BLE001 - one look that fails must not be the last
            message = "Open WebSockets could not be looked at; the next look comes."
            get_logger().exception("websocket.look_failed", message=message)
            self._error_reports.report(error, place="realtime")

    async def _end_ended(self) -> None:
        """Close the sockets of sessions that have ended."""
        sessions = set(self._of_session)
        if sessions:
            self.end_here(sessions - await self._sessions.going_on(sessions))

    async def _renew(self) -> None:
        """Keep the places of open sockets, and of no other."""
        members = [one.member for one in self._sockets.values()]
        for member in await self._desk.renew(members, self._is_here):
            self._leaving.add(member)

    def _is_here(self, member: Member) -> bool:
        return member.connection_id in self._sockets
