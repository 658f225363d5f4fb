"""What the hosts of a fleet are together, for one who uses the service: one room, and no files."""

import asyncio
import json
import secrets
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.typing import Subprotocol

from tests.hosts.machine import Machine

Hosts = dict[str, Machine]
SERVING = ("web1", "web2")
PROTOCOL = "harbour.v1"
# Certificates of the fleet, by which the balancer knows its hosts.
CERTIFICATES = "/etc/slipway/fleet/harbour.pem"
VERIFIED = "harbour.fleet"
PATIENCE = 20.0


@pytest.fixture
def headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def way_to(host: Machine, balancer: Machine, path: Path) -> Iterator[Path]:
    """A Unix socket here that leads to port 443 of a host, which opens it to the balancer alone."""
    program, *rest = balancer.ssh
    forward = f"{path}:{host.address}:443"
    command = [program, "-N", "-o", "ExitOnForwardFailure=yes", "-L", forward, *rest]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while not path.exists():
            assert process.poll() is None, "SSH to the balancer has ended"
            assert time.monotonic() < deadline, f"no way to {host.name}"
            time.sleep(0.05)
        yield path
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def ways(hosts: Hosts, machine: Machine, tmp_path: Path) -> Iterator[dict[str, Path]]:
    """To each host that serves, past the balancer's choice."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(way_to(hosts[name], machine, tmp_path / name))
            for name in SERVING
        }


@pytest.fixture
def of_the_fleet(machine: Machine) -> ssl.SSLContext:
    """Trusts what the balancer trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=machine.run(f"cat {CERTIFICATES}").stdout)
    return context


def offered(client: httpx.Client, headers: dict[str, str]) -> list[Subprotocol]:
    """What opens one WebSocket, got by way of the balancer."""
    answer = client.post("/api/v1/realtime/ticket", headers=headers)
    assert answer.status_code == 200, answer.text
    return [Subprotocol(PROTOCOL), Subprotocol(f"ticket.{answer.json()['ticket']}")]


async def until_heard(socket: ClientConnection, text: str) -> str:
    """Who has said it."""
    while True:
        told = json.loads(await socket.recv())
        if told["type"] == "message" and told["content"] == text:
            return str(told["client_id"])


def opened_on(host: Machine, client_id: str) -> bool:
    # The lines are in the journal a moment after the welcome.
    query = f"journalctl -q -o cat EVENT=websocket.opened CLIENT_ID={client_id}"
    return bool(host.run(query, check=False).stdout.strip())


async def test_clients_on_each_host_and_behind_the_balancer_hear_each_other(
    hosts: Hosts,
    machine: Machine,
    client: httpx.Client,
    headers: dict[str, str],
    ways: dict[str, Path],
    of_the_fleet: ssl.SSLContext,
) -> None:
    suffix = secrets.token_hex(4)
    sockets: dict[str, ClientConnection] = {}
    async with AsyncExitStack() as stack:
        for place in (*SERVING, "public"):
            url = f"wss://{machine.site}/ws/{place}-{suffix}"
            protocols = offered(client, headers)
            opening = (
                connect(url, ssl=machine.context, subprotocols=protocols)
                if place == "public"
                else unix_connect(
                    str(ways[place]),
                    url,
                    ssl=of_the_fleet,
                    server_hostname=VERIFIED,
                    subprotocols=protocols,
                )
            )
            sockets[place] = await stack.enter_async_context(opening)
            assert json.loads(await sockets[place].recv())["type"] == "connected"
        for speaker, socket in sockets.items():
            text = f"from {speaker}, {secrets.token_hex(4)}"
            await socket.send(text)
            for listener in sockets.values():
                heard = await asyncio.wait_for(until_heard(listener, text), PATIENCE)
                assert heard == f"{speaker}-{suffix}"
    await asyncio.sleep(1)
    for name in SERVING:
        assert [host for host in SERVING if opened_on(hosts[host], f"{name}-{suffix}")] == [name]


def test_a_report_is_refused_where_files_are_kept_nowhere(
    hosts: Hosts, client: httpx.Client, headers: dict[str, str]
) -> None:
    # The lab's fleet has no store that its hosts share: `harbour_files: none`.
    asked = client.post("/api/v1/reports", headers=headers)
    assert (asked.status_code, asked.json()["error"]["code"]) == (404, "files_off")
    upload = {"file": ("note.txt", b"ahoy", "text/plain")}
    refused = client.post("/api/v1/files/upload", headers=headers, files=upload)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "files_off")
    # Nothing was put off that could only fail.
    assert hosts["web1"].run("slipway console jobs --name reports.items").stdout == ""
