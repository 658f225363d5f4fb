"""A thousand WebSockets through Nginx and TLS, from as many addresses as the limits ask for."""

import asyncio
import json
import os
import secrets
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from deploy.lab import settings
from tests.hosts.conftest import PASSWORD
from tests.hosts.machine import Machine
from tests.hosts.operator import Operator
from tests.hosts.repository import ROOT, Repository

NEXT = "v0.1.2"
PROTOCOL = "harbour.v1"
SOCKETS, PER_ADDRESS = 1000, 100
# Below those of the mixed load, which may run on the same lab.
FIRST_ADDRESS = 60
# Handshakes at once: the client does its half of the cryptography on the same processors.
AT_ONCE = 20
# What a socket may take of the service's memory. Nginx and the kernel have their own.
MOST_KIB = 64


@dataclass
class Visitor:
    """One client, and what it has heard."""

    name: str
    address: str
    socket: ClientConnection | None = None
    heard: set[str] = field(default_factory=set)
    codes: Counter[str] = field(default_factory=Counter)
    closed: int | None = None
    closed_at: float = 0.0
    listening: asyncio.Task[None] | None = None

    async def listen(self, socket: ClientConnection) -> None:
        try:
            async for text in socket:
                told: dict[str, Any] = json.loads(text)
                self.heard.add(str(told.get("content")))
                self.codes[str(told.get("code"))] += 1
        except ConnectionClosed:
            pass
        self.closed, self.closed_at = socket.close_code, time.monotonic()


@dataclass
class Crowd:
    """All clients, of one account."""

    machine: Machine
    context: ssl.SSLContext
    http: httpx.AsyncClient
    token: str
    visitors: list[Visitor]

    def opening(self, name: str, address: str, ticket: str, **options: Any) -> connect:
        offered = [Subprotocol(PROTOCOL), Subprotocol(f"ticket.{ticket}")]
        return connect(
            f"wss://{self.machine.site}/ws/{name}",
            ssl=self.context,
            local_addr=(address, 0),
            subprotocols=offered,
            compression=None,
            open_timeout=30,
            **options,
        )

    async def tickets(self, count: int) -> list[str]:
        headers = {"Authorization": f"Bearer {self.token}"}
        found = []
        for _ in range(count):
            answer = await self.http.post("/api/v1/realtime/ticket", headers=headers)
            assert answer.status_code == 200, answer.text
            found.append(str(answer.json()["ticket"]))
        return found

    async def join(self) -> None:
        """Let everybody in who is not."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(visitor: Visitor) -> None:
            async with gate:
                (ticket,) = await self.tickets(1)
                socket = await self.opening(visitor.name, visitor.address, ticket)
                assert json.loads(await socket.recv())["type"] == "connected"
                visitor.socket, visitor.closed = socket, None
                visitor.listening = asyncio.create_task(visitor.listen(socket))

        async with asyncio.TaskGroup() as tasks:
            for visitor in self.visitors:
                tasks.create_task(one(visitor))

    async def say(self, text: str) -> float:
        """Let one say something, and return the seconds until everybody has heard it."""
        speaker = self.visitors[0].socket
        assert speaker is not None
        started = time.monotonic()
        await speaker.send(text)
        await self.until(lambda visitor: text in visitor.heard)
        return time.monotonic() - started

    async def until(self, done: Any, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while missing := sum(not done(visitor) for visitor in self.visitors):
            assert time.monotonic() < deadline, f"{missing} of {len(self.visitors)}"
            await asyncio.sleep(0.02)

    async def leave(self) -> None:
        for visitor in self.visitors:
            if visitor.socket is not None:
                visitor.socket.transport.abort()
            if visitor.listening is not None:
                await visitor.listening


@pytest.fixture(scope="module")
def addresses() -> Iterator[list[str]]:
    """Further addresses of this machine on the lab's bridge."""
    lab = settings.load(Path(os.environ["SLIPWAY_LAB_STATE"]).resolve())
    assert lab is not None
    found = [lab.address(FIRST_ADDRESS + number) for number in range(SOCKETS // PER_ADDRESS)]

    def change(verb: str) -> None:
        for address in found:
            command = ["ip", "address", verb, f"{address}/32", "dev", lab.bridge]
            subprocess.run(command, check=True, capture_output=True)

    change("replace")
    try:
        yield found
    finally:
        change("delete")


@asynccontextmanager
async def crowd_of(machine: Machine, token: str, visitors: list[Visitor]) -> AsyncIterator[Crowd]:
    context = machine.context
    base = f"https://{machine.site}"
    async with httpx.AsyncClient(base_url=base, verify=context, timeout=30) as client:
        found = Crowd(machine, context, client, token, visitors)
        yield found
        await found.leave()


@pytest.fixture
async def crowd(machine: Machine, addresses: list[str], token: str) -> AsyncIterator[Crowd]:
    visitors = [
        Visitor(f"v{number}", addresses[number % len(addresses)]) for number in range(SOCKETS)
    ]
    async with crowd_of(machine, token, visitors) as found:
        yield found


@pytest.fixture
def back(machine: Machine) -> Iterator[None]:
    """Returns to the release that was live."""
    before = machine.release()
    yield
    if machine.release() != before:
        machine.run(f"slipway rollback {before}")


def memory(machine: Machine) -> int:
    """Bytes that the processes of the live release have to themselves."""
    unit = f"{machine.app}@{machine.release()}.service"
    script = (
        f"main=$(systemctl show --value -p MainPID {unit}); "
        "for pid in $main $(cat /proc/$main/task/$main/children); "
        "do sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' /proc/$pid/smaps_rollup; done"
    )
    kibibytes = [int(line) for line in machine.run(script).stdout.split()]
    assert len(kibibytes) > 1
    return 1024 * sum(kibibytes)


def number(machine: Machine, name: str) -> float:
    """A number of the live release."""
    socket = f"/srv/{machine.app}/current/web.sock"
    text = machine.run(f"curl -s --unix-socket {socket} http://localhost/metrics").stdout
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith((f"{name} ", f"{name}{{"))
    )


def note(figures: str) -> None:
    """Keep what docs/performance.md tells beside the other reports."""
    path = ROOT / ".slipway/reports/thousand.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{figures}\n")


@pytest.mark.usefixtures("back")
async def test_a_thousand_hear_each_other_and_come_back_after_a_release(
    crowd: Crowd,
    machine: Machine,
    operator: Operator,
    repository: Repository,
) -> None:
    await crowd.join()
    assert number(machine, "websockets_open") == SOCKETS
    seconds = await crowd.say("good morning")
    assert seconds < 5

    # One address has as many as it may have, and is told so; its other requests are served.
    (ticket,) = await crowd.tickets(1)
    with pytest.raises(InvalidStatus) as refusal:
        async with crowd.opening("more", crowd.visitors[0].address, ticket):
            pass
    assert refusal.value.response.status_code == 429

    unit = machine.run("systemctl list-units --plain --no-legend redis-server* valkey-server*")
    machine.run(f"systemctl restart {unit.stdout.split()[0]}")
    await crowd.until(lambda visitor: visitor.codes["others_unreachable"] >= 1)
    await crowd.until(lambda visitor: visitor.codes["others_reachable"] >= 1)
    await crowd.say("the store is back")
    assert all(visitor.closed is None for visitor in crowd.visitors)

    repository.tag(NEXT)
    released = await operator.release(NEXT)
    assert released.returncode == 0, released.text
    await crowd.until(lambda visitor: visitor.closed is not None, 40)
    assert Counter(visitor.closed for visitor in crowd.visitors) == {
        int(CloseCode.SERVICE_RESTART): SOCKETS
    }
    times = sorted(visitor.closed_at for visitor in crowd.visitors)
    # Not all in one instant.
    closing = times[-1] - times[0]
    assert closing > 2
    # Processes that have just begun have no memory of others to give them.
    empty = memory(machine)
    await crowd.join()
    await crowd.say("good evening")
    each = (memory(machine) - empty) / SOCKETS / 1024
    assert 0 < each < MOST_KIB
    note(f"heard by all in {seconds:.2f} s, {each:.0f} KiB each, all closed in {closing:.1f} s")


async def test_a_refusal_and_a_large_message_are_told_through_nginx(
    crowd: Crowd, machine: Machine
) -> None:
    address = crowd.visitors[-1].address
    with pytest.raises(InvalidStatus) as refusal:
        async with crowd.opening("ann", address, "hwt_unknown"):
            pass
    response = refusal.value.response
    assert response.status_code == 401
    assert response.headers["Strict-Transport-Security"]
    assert json.loads(response.body or b"")["error"]["code"] == "invalid_ticket"
    (ticket,) = await crowd.tickets(1)
    async with crowd.opening("ann", address, ticket) as socket:
        await socket.recv()
        await socket.send("x" * 1_000_000)
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == CloseCode.MESSAGE_TOO_BIG


async def token_from(machine: Machine, address: str) -> str:
    """The token of an account of its own, which another address may register than the tester's."""
    name = f"leaver{secrets.token_hex(4)}"
    user = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
    transport = httpx.AsyncHTTPTransport(verify=machine.context, local_address=address)
    async with httpx.AsyncClient(
        base_url=f"https://{machine.site}/api/v1", transport=transport
    ) as client:
        made = await client.post("/users/register", json=user)
        assert made.status_code == 201, made.text
        form = {"username": name, "password": PASSWORD}
        answer = await client.post("/auth/token", data=form)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


async def test_logging_out_closes_a_socket_through_nginx(
    machine: Machine, addresses: list[str]
) -> None:
    token = await token_from(machine, addresses[0])
    async with crowd_of(machine, token, []) as crowd:
        (ticket,) = await crowd.tickets(1)
        async with crowd.opening("leaver", addresses[0], ticket) as socket:
            await socket.recv()
            headers = {"Authorization": f"Bearer {token}"}
            answer = await crowd.http.post("/api/v1/auth/logout", headers=headers)
            assert answer.status_code == 204, answer.text
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 5)
            assert socket.close_code == 4401


def test_a_websocket_is_refused_without_tls(machine: Machine) -> None:
    answer = httpx.get(f"http://{machine.site}/ws/ann", follow_redirects=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "tls_required")


def test_opening_and_closing_is_in_the_journal_by_its_fields(machine: Machine) -> None:
    command = "journalctl --no-pager --output=json EVENT=websocket.closed WEBSOCKET_CODE=4401"
    line = json.loads(machine.run(f"{command} -n 1").stdout)
    assert line["CLIENT_ID"] == "leaver"
    assert machine.run(
        f"journalctl --no-pager -o cat REQUEST_ID={line['REQUEST_ID']} EVENT=websocket.opened"
    ).stdout.strip()
