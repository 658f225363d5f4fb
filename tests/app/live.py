"""The service as hosts run it, for tests of live messages: real workers, real clients."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.app.conftest import SECRET, log_in, register
from tests.processes import counted, free_port
from tests.services import ROOT

PROTOCOL = "harbour.v1"
# Long enough for a machine with much else to do; what is quick does not wait for it.
PATIENCE = 20.0


@dataclass
class Worker:
    """One worker of the service, a process of its own."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path
    numbers: Path
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=PATIENCE)

    async def session(self, username: str) -> dict[str, Any]:
        """Log in, with a new account where there is none."""
        async with self.client() as client:
            answer = await log_in(client, username)
            if answer.status_code == 401:
                assert (await register(client, username)).status_code == 201
                answer = await log_in(client, username)
            assert answer.status_code == 200, answer.text
            session: dict[str, Any] = answer.json()
            return session

    async def ticket(self, session: dict[str, Any]) -> str:
        async with self.client() as client:
            answer = await client.post("/api/v1/realtime/ticket", headers=bearer(session))
            assert answer.status_code == 200, answer.text
            assert answer.json()["protocol"] == PROTOCOL
            return str(answer.json()["ticket"])

    def connect(
        self, client_id: str, ticket: str | None, name: str = "127.0.0.1", **options: Any
    ) -> connect:
        """Return what opens a WebSocket at the worker, under a name of it."""
        offered = [PROTOCOL] if ticket is None else [PROTOCOL, f"ticket.{ticket}"]
        options.setdefault("subprotocols", [Subprotocol(one) for one in offered])
        options.setdefault("compression", None)
        url = f"ws://{name}:{self.port}/ws/{client_id}"
        options |= {"host": "127.0.0.1", "open_timeout": PATIENCE, "close_timeout": 2}
        return connect(url, **options)

    @asynccontextmanager
    async def joined(
        self, client_id: str, session: dict[str, Any], **options: Any
    ) -> AsyncIterator[ClientConnection]:
        """Be in the room, and have been welcomed."""
        async with self.connect(client_id, await self.ticket(session), **options) as client:
            assert client.subprotocol == PROTOCOL
            assert await heard(client) == {
                "type": "connected",
                "client_id": client_id,
                "message": f"Welcome, {client_id}!",
            }
            yield client

    async def number(self, name: str) -> float:
        async with self.client() as client:
            lines = (await client.get("/metrics")).text.splitlines()
        found = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")]
        return float(found[0]) if found else 0.0

    async def number_becomes(self, name: str, value: float) -> None:
        deadline = time.monotonic() + PATIENCE
        while (found := await self.number(name)) != value:
            assert time.monotonic() < deadline, (name, found)
            await asyncio.sleep(0.05)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of an event that the worker has logged."""
        found = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [one for one in map(json.loads, found) if one.get("event") == event]


def bearer(session: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {session['access_token']}"}


async def heard(client: ClientConnection) -> dict[str, Any]:
    """Return what the client hears next."""
    async with asyncio.timeout(PATIENCE):
        told: dict[str, Any] = json.loads(await client.recv())
    return told


async def hears_nothing(client: ClientConnection, seconds: float = 0.3) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await client.recv()
    except TimeoutError:
        return True
    return False


async def close_of(client: ClientConnection) -> tuple[int, str]:
    """Return with what code and reason the server closes, after whatever it says before."""
    with pytest.raises(ConnectionClosed) as caught:
        await _listen(client)
    assert caught.value.rcvd is not None, caught.value
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def _listen(client: ClientConnection) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            await client.recv()


def message_of(client_id: str, text: str) -> dict[str, str]:
    return {
        "type": "message",
        "client_id": client_id,
        "content": text,
        "echo": f"Server received: {text}",
    }


def uvicorn(port: int) -> list[str]:
    """One process."""
    options = ["--ws-max-size=70000", "--ws-per-message-deflate=false", f"--port={port}"]
    return ["uvicorn", "--factory", "app.main:create_app", *options]


def gunicorn(port: int) -> list[str]:
    """Two workers of the class that hosts use."""
    options = ["--no-control-socket", "--workers=2", f"--bind=127.0.0.1:{port}"]
    worker = "--worker-class=slipway_worker.DrainingWorker"
    return ["gunicorn", *options, worker, "--graceful-timeout=40", "app.main:create_app()"]


@contextmanager
def running_worker(
    folder: Path,
    command: Callable[[int], list[str]] = uvicorn,
    environment: Mapping[str, str] | None = None,
    **settings: Any,
) -> Iterator[Worker]:
    """Run the service on a port of its own.

    Args:
        folder: for its log, its secrets and its numbers.
        command: the module that serves on a port, and its arguments.
        environment: what the unit of a release sets besides.
        settings: fields of the service's settings.
    """
    folder.mkdir(parents=True)
    credentials, numbers, log = folder / "credentials", folder / "numbers", folder / "log"
    credentials.mkdir()
    numbers.mkdir()
    (credentials / "app_token_secret").write_text(SECRET)
    port = free_port()
    usual = {
        "limit_login": "",
        "limit_register": "",
        "limit_default": "",
        "database_read_pool_size": 4,
        "database_write_pool_size": 4,
        "allowed_hosts": ["127.0.0.1"],
        "file_store": "none",
    }
    said = {
        f"APP_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in {**usual, **settings}.items()
        if value is not None
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command(port)],
            cwd=ROOT,
            stdout=output,
            stderr=output,
            env={
                "PATH": os.environ["PATH"],
                **counted(),
                "CREDENTIALS_DIRECTORY": str(credentials),
                "PROMETHEUS_MULTIPROC_DIR": str(numbers),
                "PYTHONPATH": f"{ROOT}:{ROOT / 'roles/app/files'}",
                "PYTHONDONTWRITEBYTECODE": "1",
                **(environment or {}),
                **said,
            },
        )
    try:
        _wait(process, port, log)
        yield Worker(process, port, log, numbers)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + 3 * PATIENCE
    while True:
        try:
            assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return
