"""Live messages: two workers on one store, real clients."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.app.conftest import RunSql, events
from tests.app.live import (
    PROTOCOL,
    Worker,
    bearer,
    close_of,
    heard,
    hears_nothing,
    message_of,
    running_worker,
)
from tests.services import RedisServer

Session = dict[str, Any]


@pytest.fixture(scope="module")
def workers(
    empty_once: None,
    database_url: str,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Worker, Worker]]:
    common: dict[str, Any] = {
        "database_url": database_url,
        "cache_url": redis_server.url,
        "websockets_per_account": 6,
        "websocket_message_bytes": 60_000,
        "websocket_message_burst": 100,
        "cors_origins": ["https://app.example"],
        "websocket_origins": ["https://live.example"],
    }
    folder = tmp_path_factory.mktemp("live")
    with (
        running_worker(folder / "one", **common) as one,
        running_worker(folder / "other", **common) as other,
    ):
        yield one, other


@pytest.fixture
async def session(workers: tuple[Worker, Worker]) -> Session:
    return await workers[0].session("ann")


@pytest.fixture(scope="module")
def patient(
    empty_once: None, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Worker, Session]]:
    """A worker that lets one say much, and who says it."""
    generous: dict[str, Any] = {
        "websocket_messages_per_second": 1e6,
        "websocket_bytes_per_second": 1e9,
    }
    folder = tmp_path_factory.mktemp("patient") / "one"
    with running_worker(folder, database_url=database_url, **generous) as one:
        yield one, asyncio.run(one.session("unicode"))


async def refused(worker: Worker, client_id: str, ticket: str | None, **options: Any) -> Any:
    """Return the status and the code with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with worker.connect(client_id, ticket, **options):
            pass
    response = caught.value.response
    assert response.body is not None
    assert response.headers["X-Request-ID"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    body = json.loads(response.body)
    assert body["error"]["request_id"] == response.headers["X-Request-ID"]
    return response.status_code, body["error"]["code"]


async def test_a_message_reaches_its_sender_and_everybody_on_every_worker(
    workers: tuple[Worker, Worker], session: Session
) -> None:
    one, other = workers
    async with (
        one.joined("ann", session) as ann,
        one.joined("bob", session) as bob,
        other.joined("cid", await other.session("cid")) as cid,
    ):
        await ann.send("good morning")
        for client in (ann, bob, cid):
            assert await heard(client) == message_of("ann", "good morning")
        await cid.send("fine")
        for client in (ann, bob, cid):
            assert await heard(client) == message_of("cid", "fine")
        await bob.close()
        left = {"type": "disconnected", "client_id": "bob", "message": "bob has left."}
        assert [await heard(ann), await heard(cid)] == [left, left]
        for client in (ann, cid):
            assert await hears_nothing(client)


async def test_what_one_client_says_arrives_in_its_order(
    workers: tuple[Worker, Worker], session: Session
) -> None:
    one, other = workers
    async with one.joined("ann", session) as ann, other.joined("bob", session) as bob:
        said = [f"number {number}" for number in range(60)]
        for text in said:
            await ann.send(text)
        assert [(await heard(bob))["content"] for _ in said] == said


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=200), min_size=1, max_size=5
    )
)
def test_every_text_comes_back_as_it_was(patient: tuple[Worker, Session], texts: list[str]) -> None:
    worker, session = patient

    async def talk() -> None:
        async with worker.joined("u", session) as client:
            for text in texts:
                await client.send(text)
                assert await heard(client) == message_of("u", text)

    asyncio.run(talk())


async def test_a_ticket_is_good_once(workers: tuple[Worker, Worker], session: Session) -> None:
    one, other = workers
    ticket = await one.ticket(session)
    async with other.connect("ann", ticket) as client:
        assert (await heard(client))["type"] == "connected"
        assert await refused(one, "ann", ticket) == (401, "invalid_ticket")
        assert await refused(other, "ann", ticket) == (401, "invalid_ticket")


async def test_of_many_who_try_one_ticket_one_gets_in(
    workers: tuple[Worker, Worker], session: Session
) -> None:
    ticket = await workers[0].ticket(session)

    async def attempt(number: int) -> bool:
        try:
            async with workers[number % 2].connect("ann", ticket) as client:
                return bool((await heard(client))["type"] == "connected")
        except InvalidStatus as refusal:
            return refusal.response.status_code != 401

    assert sum(await asyncio.gather(*(attempt(number) for number in range(8)))) == 1


@pytest.mark.parametrize("ticket", [None, "", "hwt_unknown", "x" * 3000])
async def test_without_a_good_ticket_nobody_gets_in(
    workers: tuple[Worker, Worker], session: Session, ticket: str | None
) -> None:
    assert await refused(workers[0], "ann", ticket) == (401, "invalid_ticket")


async def test_nothing_but_a_ticket_opens_a_socket(
    workers: tuple[Worker, Worker], session: Session
) -> None:
    headers = {**bearer(session), "Cookie": f"__Host-access={session['access_token']}"}
    found = await refused(workers[0], "ann", None, additional_headers=headers)
    assert found == (401, "invalid_ticket")
    ticket = await workers[0].ticket(session)
    both = [Subprotocol(one) for one in (PROTOCOL, f"ticket.{ticket}", "ticket.other")]
    assert (await refused(workers[0], "ann", None, subprotocols=both))[0] == 401
    alone = [Subprotocol(f"ticket.{ticket}")]
    found = await refused(workers[0], "ann", None, subprotocols=alone)
    assert found == (400, "protocol_missing")
    async with workers[0].connect("ann", ticket) as client:
        assert client.subprotocol == PROTOCOL


async def test_an_api_key_gets_no_ticket(workers: tuple[Worker, Worker], session: Session) -> None:
    async with workers[0].client() as client:
        made = await client.post("/api/v1/api-keys", json={"name": "a"}, headers=bearer(session))
        key = {"X-API-Key": made.json()["api_key"]}
        answer = await client.post("/api/v1/realtime/ticket", headers=key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "session_needed")
        assert (await client.post("/api/v1/realtime/ticket")).status_code == 401


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://app.example", 0),
        ("https://live.example", 0),
        ("https://HOST", 0),
        ("http://HOST", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("https://app.example.evil", 403),
    ],
)
async def test_a_page_of_somebody_else_opens_nothing(
    workers: tuple[Worker, Worker], session: Session, sql: RunSql, origin: str, status: int
) -> None:
    worker = workers[0]
    named = Origin(origin.replace("HOST", f"127.0.0.1:{worker.port}"))
    ticket = await worker.ticket(session)
    if not status:
        async with worker.connect("ann", ticket, origin=named) as client:
            assert (await heard(client))["type"] == "connected"
        return
    assert await refused(worker, "ann", ticket, origin=named) == (403, "foreign_origin")
    # The ticket is not used up by it.
    async with worker.connect("ann", ticket):
        pass


async def test_a_refusal_of_an_origin_is_in_the_audit_trail(
    workers: tuple[Worker, Worker], session: Session, sql: RunSql
) -> None:
    # A worker notes the same refusal once a minute, and this one has refused none yet.
    ticket = await workers[1].ticket(session)
    await refused(workers[1], "ann", ticket, origin=Origin("https://evil.example"))
    found = events(sql, "event = 'access.forbidden'")[-1]
    assert found["details"] == {"route": "WEBSOCKET /ws/{client_id}"}
    assert found["client_address"] == "127.0.0.1"


@pytest.mark.parametrize("client_id", ["%20", "a" * 65, "-a", "a%0Ab", "%3Cb%3E", "%C3%A4"])
async def test_a_name_that_is_none_is_refused(
    workers: tuple[Worker, Worker], session: Session, client_id: str
) -> None:
    ticket = await workers[0].ticket(session)
    assert await refused(workers[0], client_id, ticket) == (400, "bad_client_id")


async def test_other_addresses_and_hosts_are_refused_in_the_same_shape(
    workers: tuple[Worker, Worker], session: Session
) -> None:
    ticket = await workers[0].ticket(session)
    assert await refused(workers[0], "a/b", ticket) == (404, "not_found")
    found = await refused(workers[0], "ann", ticket, name="evil.example")
    assert found == (400, "invalid_host")


async def test_a_name_belongs_to_one_account_at_a_time(
    workers: tuple[Worker, Worker], session: Session, sql: RunSql
) -> None:
    one, other = workers
    stranger = await one.session("stranger")
    stranger_id = int(sql("SELECT id FROM users WHERE username = 'stranger'"))
    async with one.joined("ann", session) as first, other.joined("ann", session) as second:
        # Two devices of one account may share a name, and both stay.
        await first.send("hello")
        assert await heard(first) == await heard(second) == message_of("ann", "hello")
        for worker in workers:
            ticket = await worker.ticket(stranger)
            assert await refused(worker, "ann", ticket) == (409, "client_id_taken")
            line = worker.lines("websocket.refused")[-1]
            assert (line["http_status"], line["user_id"]) == (409, stranger_id)
    # Who has left has given the name back.
    await _eventually_joined(one, stranger, "ann")


async def test_an_account_has_so_many_sockets_on_all_workers_together(
    workers: tuple[Worker, Worker], session: Session, sql: RunSql
) -> None:
    async with AsyncExitStack() as stack:
        for number in range(6):
            await stack.enter_async_context(workers[number % 2].joined(f"a{number}", session))
        for worker in workers:
            ticket = await worker.ticket(session)
            assert await refused(worker, "more", ticket) == (429, "too_many_connections")
        async with workers[0].joined("other", await workers[0].session("other")):
            pass
    user = int(sql("SELECT id FROM users WHERE username = 'ann'"))
    found = events(sql, f"event = 'limit.exceeded' AND user_id = {user}")
    assert found[0]["details"] == {"route": "WEBSOCKET /ws/{client_id}"}
    await _eventually_joined(workers[0], session)


async def _eventually_joined(worker: Worker, session: Session, name: str = "again") -> None:
    """A place becomes free just after its socket is closed."""
    for _ in range(50):
        try:
            async with worker.joined(name, session):
                return
        except InvalidStatus:
            await asyncio.sleep(0.05)
    pytest.fail("No place has become free.")


async def ended_by(workers: tuple[Worker, Worker], session: Session, *requests: Any) -> None:
    """The sockets of a session are closed on both workers as soon as a request has ended it."""
    one, other = workers
    async with one.joined("one", session) as here, other.joined("two", session) as there:
        async with one.client() as client:
            for method, path, body, headers in requests:
                answer = await client.request(method, path, json=body, headers=headers)
                assert answer.is_success, answer.text
        started = asyncio.get_running_loop().time()
        for socket in (here, there):
            assert await close_of(socket) == (4401, "Your session has ended: log in again.")
        assert asyncio.get_running_loop().time() - started < 2
    async with one.client() as client:
        answer = await client.post("/api/v1/realtime/ticket", headers=bearer(session))
        assert answer.status_code == 401


async def test_logging_out_closes_the_sockets_of_the_session(
    workers: tuple[Worker, Worker], session: Session
) -> None:
    body = {"refresh_token": session["refresh_token"]}
    another = await workers[1].session("ann")
    async with workers[1].joined("ann", another) as stays:
        await ended_by(workers, session, ("POST", "/api/v1/auth/logout", body, bearer(session)))
        await stays.send("still here")
        while (await heard(stays)).get("content") != "still here":
            pass


async def test_deactivating_an_account_closes_its_sockets(
    workers: tuple[Worker, Worker], sql: RunSql
) -> None:
    leaver = await workers[0].session("leaver")
    await workers[0].session("boss")
    sql("UPDATE users SET role = 'admin' WHERE username = 'boss'")
    admin = await workers[0].session("boss")
    user = sql("SELECT id FROM users WHERE username = 'leaver'")
    path = f"/api/v1/admin/users/{user}/deactivate"
    await ended_by(workers, leaver, ("POST", path, None, bearer(admin)))


async def test_a_ticket_ends_with_its_session(
    workers: tuple[Worker, Worker], session: Session
) -> None:
    ticket = await workers[0].ticket(session)
    body = {"refresh_token": session["refresh_token"]}
    async with workers[0].client() as client:
        await client.post("/api/v1/auth/logout", json=body, headers=bearer(session))
    assert await refused(workers[1], "ann", ticket) == (401, "invalid_ticket")


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([b"binary"], 1003),
        (["x" * 60_001], 1009),
        (["ä" * 30_001], 1009),
        # More than the server below reads.
        (["x" * 80_000], 1009),
        (["m"] * 130, 1008),
    ],
)
async def test_what_is_not_allowed_closes_the_socket_with_its_code(
    workers: tuple[Worker, Worker], frames: list[str | bytes], code: int
) -> None:
    async with workers[0].joined("rude", await workers[0].session("rude")) as client:
        for frame in frames:
            await client.send(frame)
        assert (await close_of(client))[0] == code
    assert "Traceback" not in workers[0].log.read_text()


async def test_a_flood_is_in_the_audit_trail_with_its_account(
    workers: tuple[Worker, Worker], sql: RunSql
) -> None:
    flooder = await workers[1].session("flooder")
    async with workers[1].joined("flooder", flooder) as client:
        for _ in range(130):
            await client.send("m")
        assert (await close_of(client))[0] == 1008
    user = int(sql("SELECT id FROM users WHERE username = 'flooder'"))
    for _ in range(100):
        found = events(sql, f"event = 'limit.exceeded' AND user_id = {user}")
        if found:
            break
        await asyncio.sleep(0.1)
    assert found[0]["details"] == {"route": "WEBSOCKET /ws/{client_id}"}


@pytest.mark.parametrize("text", ["", "x" * 60_000, "ä" * 30_000, "\x00", '{"type":"message"}'])
async def test_what_is_just_allowed_is_echoed(
    workers: tuple[Worker, Worker], session: Session, text: str
) -> None:
    async with workers[0].joined("ann", session) as client:
        await client.send(text)
        assert await heard(client) == message_of("ann", text)


async def test_opening_and_closing_is_logged_with_its_request_and_its_numbers(
    workers: tuple[Worker, Worker], session: Session, sql: RunSql
) -> None:
    worker = workers[0]
    name, ticket = "logged-request-1", await worker.ticket(session)
    before = await worker.number('websocket_closes_total{code="1000"}')
    async with worker.connect("ann", ticket, additional_headers={"X-Request-ID": name}) as client:
        assert (await heard(client))["type"] == "connected"
        assert client.response is not None
        assert client.response.headers["X-Request-ID"] == name
        await client.send("one")
        await heard(client)
        await worker.number_becomes("websockets_open", 1)
    await worker.number_becomes("websockets_open", 0)
    await worker.number_becomes('websocket_closes_total{code="1000"}', before + 1)
    (opened,) = [line for line in worker.lines("websocket.opened") if line["request_id"] == name]
    (closed,) = [line for line in worker.lines("websocket.closed") if line["request_id"] == name]
    assert opened["client_id"] == "ann"
    user = int(sql("SELECT id FROM users WHERE username = 'ann'"))
    assert opened["user_id"] == closed["user_id"] == user
    assert (closed["websocket_code"], closed["websocket_received"]) == (1000, 1)
    assert closed["websocket_sent"] == 2
    assert closed["websocket_seconds"] > 0
    written = worker.log.read_text()
    assert ticket not in written
    assert '"WebSocket /ws' not in written
    assert "without completing handshake" not in written


def test_the_workers_have_met_nothing_unforeseen(
    workers: tuple[Worker, Worker],
) -> None:
    for worker in workers:
        assert worker.lines("websocket.failed") == []
        assert "Traceback" not in worker.log.read_text()
