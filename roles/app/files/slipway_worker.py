"""A Gunicorn worker that loses no request when its release is replaced.

It is a subclass of `uvicorn_worker.UvicornWorker`, and serves any ASGI application. Stock Uvicorn
closes idle connections as soon as it is told to end; a POST that Nginx is just sending on one of
them is then lost, for Nginx may not repeat it (RFC 9110, section 9.2.2). This one announces
`Connection: close` on every further answer and closes nothing until the peer has.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gunicorn.arbiter import Arbiter
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

try:
    from slipway_websockets import BoundedWebSocket
except ImportError:
    # A service without WebSockets, or with another library for them: Uvicorn looks for one.
    _WEBSOCKETS: Any = "auto"
else:
    _WEBSOCKETS = BoundedWebSocket

# How often the drain looks whether it is done, in seconds.
_GLANCE = 0.05


class DrainingServer(Server):
    """A server that drains before it shuts down, and tells when it can serve."""

    def __init__(self, worker: DrainingWorker) -> None:
        super().__init__(config=worker.config)
        self._worker = worker

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell that one more worker can serve."""
        await super().startup(sockets)
        if self.started and not self.should_exit:
            announce(self._worker.cfg.workers)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, drain, then shut down as usual."""
        heartbeat = asyncio.create_task(self._heartbeat())
        parting = asyncio.create_task(self._part_websockets())
        try:
            await self._drain(sockets or [])
            await parting
            await super().shutdown(sockets)
        finally:
            heartbeat.cancel()
            parting.cancel()

    async def _heartbeat(self) -> None:
        # Gunicorn kills a worker that is silent for its time-out, and the loop that notifies it has
        # ended by now.
        while True:
            self._worker.notify()
            await asyncio.sleep(1)

    async def _drain(self, sockets: Sequence[socket.socket]) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        # In place: requests under way hold this very list. Uvicorn closes the connection itself
        # after an answer that says so.
        self.server_state.default_headers.append((b"connection", b"close"))
        deadline = time.monotonic() + drain_seconds()
        # Connections end without telling the server, so that it has to look.
        while self._http_connections() and time.monotonic() < deadline and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(_GLANCE)

    async def _part_websockets(self) -> None:
        """Close WebSockets one after the other, with 1012: their clients come back at once.

        All in one instant they would, and to a release that has just started.
        """
        spread = min(_seconds("SLIPWAY_WEBSOCKET_SPREAD_SECONDS", 5), drain_seconds())
        leaving = [one for one in self.server_state.connections if self._is_websocket(one)]
        # Else those who came first, from one address perhaps, would come back together.
        random.shuffle(leaving)
        for connection in leaving:
            if self.force_exit:
                return
            if connection in self.server_state.connections:
                _part(connection)
            await asyncio.sleep(spread / len(leaving))

    def _http_connections(self) -> bool:
        return any(not self._is_websocket(one) for one in self.server_state.connections)

    def _is_websocket(self, connection: object) -> bool:
        websocket = self.config.ws_protocol_class
        # What uvicorn takes is a class, although it would be content with any callable.
        return isinstance(websocket, type) and isinstance(connection, websocket)


def _part(connection: Any) -> None:  # noqa: ANN401 - of whichever library
    """Close a WebSocket; one that fails at it must not keep the others and the worker from it."""
    try:
        connection.shutdown()
    except Exception:
        logging.getLogger("uvicorn.error").exception("A WebSocket could not be closed: it is cut.")
        connection.transport.abort()


def _seconds(name: str, usual: float) -> float:
    return float(os.environ.get(name, usual))


class DrainingWorker(UvicornWorker):
    """The worker class that `gunicorn.conf.py` names."""

    CONFIG_KWARGS: dict[str, Any] = {  # noqa: RUF012
        **UvicornWorker.CONFIG_KWARGS,
        "timeout_graceful_shutdown": int(os.environ.get("SLIPWAY_GRACEFUL_SECONDS", "30")),
        "ws_max_size": int(os.environ.get("SLIPWAY_WEBSOCKET_BYTES", "65536")),
        "ws_ping_interval": _seconds("SLIPWAY_WEBSOCKET_PING_SECONDS", 20),
        "ws_ping_timeout": _seconds("SLIPWAY_WEBSOCKET_PING_SECONDS", 20),
        "ws": _WEBSOCKETS,
        # It takes some 100 KiB of each socket, and a small message inflates to a huge one.
        "ws_per_message_deflate": False,
    }

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = DrainingServer(self)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


def drain_seconds() -> float:
    """Longest time that idle connections are left to their peer."""
    return _seconds("SLIPWAY_DRAIN_SECONDS", 10)


def announce(workers: int) -> None:
    """Record that this worker can serve; the last one tells systemd (sd_notify(3)).

    Gunicorn itself would say so long before the first answer, so gunicorn.conf.py keeps the address
    of systemd's socket from it, under another name.
    """
    folder = os.environ.get("RUNTIME_DIRECTORY")
    address = os.environ.get("SLIPWAY_NOTIFY_SOCKET")
    if not folder or not address:
        return
    (Path(folder) / f"ready.{os.getpid()}").touch()
    if len(list(Path(folder).glob("ready.*"))) >= workers:
        if address.startswith("@"):
            address = "\0" + address[1:]
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.sendto(b"READY=1\nSTATUS=Serving\n", address)


def forget(number: int) -> None:
    """Forget a worker that has ended, by its process number."""
    folder = os.environ.get("RUNTIME_DIRECTORY")
    if folder:
        (Path(folder) / f"ready.{number}").unlink(missing_ok=True)


def free_slot(workers: Iterable[Any]) -> int:
    """Return the smallest number from 1 that none of the workers has as its `slot`."""
    taken = {worker.slot for worker in workers}
    return next(slot for slot in itertools.count(1) if slot not in taken)


def count_as(slot: int) -> None:
    """Have prometheus-client, where a service has it, name a worker's files by its slot.

    By default it names them by the process, and keeps those of each process that has ever counted:
    workers are replaced for ever, and the folder of their numbers lies in memory.
    """
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        with contextlib.suppress(ImportError):
            from prometheus_client import values  # noqa: PLC0415 - not every service has it

            values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]
