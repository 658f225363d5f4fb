"""WebSockets through a real Nginx with the rendered site, to a service that echoes."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from slipway_release import maintenance
from tests.roles.nginx_site import NAME, Site, let_in

PER_ADDRESS = 100


async def echo(connection: ServerConnection) -> None:
    """Tell the headers that have come, then repeat what is said."""
    assert connection.request is not None
    await connection.send(json.dumps(dict(connection.request.headers.raw_items())))
    async for message in connection:
        await connection.send(message)


@pytest.fixture
async def service(site: Site) -> AsyncIterator[Site]:
    """The site, with a service behind it."""
    folder = site.settings.state.parent / "srv/current"
    folder.mkdir(parents=True)
    let_in(folder)
    path = folder / "web.sock"
    async with unix_serve(echo, str(path), subprotocols=[Subprotocol("quay.v1")]):
        path.chmod(0o777)
        yield site


def through(site: Site, source: str, **options: Any) -> connect:
    """Open a WebSocket as a client with that address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return connect(
        f"wss://{NAME}/ws/ann",
        host="127.0.0.1",
        port=site.tls,
        ssl=context,
        server_hostname=NAME,
        local_addr=(source, 0),
        subprotocols=[Subprotocol("quay.v1"), Subprotocol("ticket.secret")],
        **options,
    )


async def refusal(opening: connect) -> Any:
    with pytest.raises(InvalidStatus) as caught:
        async with opening:
            pass
    assert caught.value.response.body is not None
    return caught.value.response.status_code, json.loads(caught.value.response.body)["error"][
        "code"
    ]


async def test_a_websocket_passes_with_what_the_service_needs_to_know(service: Site) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Request-ID": "of-the-client-1"}
    async with through(
        service, "127.0.0.3", origin=f"https://{NAME}", additional_headers=forged
    ) as socket:
        headers = {name.lower(): value for name, value in json.loads(await socket.recv()).items()}
        assert headers["x-forwarded-for"] == "127.0.0.3"
        assert headers["x-forwarded-proto"] == "https"
        assert headers["host"] == NAME
        assert headers["origin"] == f"https://{NAME}"
        assert headers["x-request-id"] == "of-the-client-1"
        assert headers["sec-websocket-protocol"] == "quay.v1, ticket.secret"
        assert socket.subprotocol == "quay.v1"
        await socket.send("x" * 60_000)
        assert await socket.recv() == "x" * 60_000


async def test_an_address_has_so_many_sockets_and_its_requests_beside(service: Site) -> None:
    async with AsyncExitStack() as stack:
        sockets: list[ClientConnection] = [
            await stack.enter_async_context(through(service, "127.0.0.4"))
            for _ in range(PER_ADDRESS)
        ]
        assert await refusal(through(service, "127.0.0.4")) == (429, "rate_limited")
        # Neither its other requests nor another address.
        answer = await asyncio.to_thread(service.ask, "127.0.0.4")
        assert answer.status == 426
        async with through(service, "127.0.0.5") as other:
            await other.recv()
        await sockets.pop().close()
        async with asyncio.timeout(10):
            while True:
                try:
                    async with through(service, "127.0.0.4"):
                        break
                except InvalidStatus:
                    await asyncio.sleep(0.1)


async def test_an_address_opens_so_many_sockets_a_second(service: Site) -> None:
    refused = []
    for _ in range(PER_ADDRESS + 60):
        try:
            async with through(service, "127.0.0.6"):
                pass
        except InvalidStatus as error:
            refused.append(error.response.status_code)
    assert set(refused) == {429}


async def test_without_tls_a_websocket_is_refused_and_challenges_are_answered(site: Site) -> None:
    answer = await asyncio.to_thread(site.ask, "127.0.0.2", "/ws/ann", tls=False)
    assert (answer.status, answer.code) == (403, "tls_required")
    path = "/.well-known/acme-challenge/token"
    assert (await asyncio.to_thread(site.ask, "127.0.0.2", path, tls=False)).body == b"answer"


async def test_maintenance_refuses_new_sockets_and_leaves_those_that_are_open(
    service: Site,
) -> None:
    async with through(service, "127.0.0.2") as socket:
        await socket.recv()
        await asyncio.to_thread(maintenance.close, service.settings, "", [], "Ada")
        async with asyncio.timeout(10):
            while True:
                answer = await asyncio.to_thread(service.ask, "127.0.0.2", "/ws/ann")
                if answer.status == 503:
                    break
                await asyncio.sleep(0.05)
        assert await refusal(through(service, "127.0.0.2")) == (503, "maintenance")
        await socket.send("still here")
        assert await socket.recv() == "still here"
        await asyncio.to_thread(maintenance.open_again, service.settings, "Ada")


def test_gunicorn_gets_the_bounds_of_websockets(rendered: dict[str, Path]) -> None:
    unit = (rendered["debian-12"] / "quay@.service").read_text()
    for line in ("BYTES=65536", "PING_SECONDS=20", "SPREAD_SECONDS=5"):
        assert f"Environment=SLIPWAY_WEBSOCKET_{line}\n" in unit
