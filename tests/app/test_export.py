"""The export of a large catalogue by a process of its own: in little memory, in nobody's way."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.conftest import SECRET, empty_stores, log_in, register
from tests.processes import forget_peak, peak_memory
from tests.services import ROOT, PostgreSQL, RedisServer

FEW, MANY = 2_000, 120_000
# Of the whole export, which is about 30 MB on the wire and several times that as rows.
MOST_MEMORY = 8 * 1024
PATH = "/api/v1/items/export"
# A client that stops reading takes in what the kernel and the server keep for it, no more.
STALLED = 12
CUT_OFF = 30


@dataclass
class Served:
    """One process of the service with a large catalogue.

    Attributes:
        process: It answers on a socket.
        token: Of an account that may read.
        few: Peak memory of an export of few items, in KiB.
    """

    process: subprocess.Popen[bytes]
    path: Path
    log: Path
    postgresql: PostgreSQL
    token: str = ""
    few: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def sql(self, statement: str) -> str:
        return self.postgresql.execute(statement, "harbour")

    def client(self) -> httpx.Client:
        """A client of its own connection."""
        transport = httpx.HTTPTransport(uds=str(self.path))
        return httpx.Client(
            transport=transport, base_url="http://localhost", timeout=60, headers=self.headers
        )

    def export(self) -> list[dict[str, Any]]:
        """Read the whole export."""
        with self.client() as client:
            answer = client.get(PATH)
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.content.splitlines()]

    def read_through(self) -> int:
        """Read the whole export without keeping it; return its lines."""
        with self.client() as client, client.stream("GET", PATH) as answer:
            return sum(piece.count(b"\n") for piece in answer.iter_raw())

    @contextmanager
    def begun(self) -> Iterator[socket.socket]:
        """Ask for the export, and read only its beginning."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self.path))
            lines = (
                f"GET {PATH} HTTP/1.1",
                "Host: localhost",
                f"Authorization: Bearer {self.token}",
            )
            connection.sendall("\r\n".join((*lines, "", "")).encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            yield connection

    def peak(self) -> int:
        """The most memory that it had since the last `forget_peak`, in KiB."""
        return peak_memory(self.process.pid) // 1024

    def forget_peak(self) -> None:
        forget_peak(self.process.pid)

    def exports_ended(self) -> int:
        """How many exports have come to an end, whichever."""
        return self.log.read_text().count('"http_route":"/api/v1/items/export"')

    def connections(self) -> list[str]:
        """The state of each of its connections to the database."""
        found = self.sql("SELECT state FROM pg_stat_activity WHERE usename = 'harbour'")
        return found.split("\n") if found else []


def add_items(served: Served, count: int) -> None:
    served.sql(
        "INSERT INTO items (owner_id, title, description, price) SELECT 1, 'Lamp ' || number, "
        f"repeat('It gives light. ', 4), 1 FROM generate_series(1, {count}) AS number"
    )


@pytest.fixture(scope="module")
async def served(
    postgresql: PostgreSQL,
    database_url: str,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Served]:
    """One process with one connection for reading and one for transactions."""
    await empty_stores(postgresql, redis_server)
    folder = tmp_path_factory.mktemp("export")
    path, log = folder / "web.sock", folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - it is over before anything waits
            [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app", "--uds", path],
            cwd=ROOT,
            stdout=output,
            stderr=output,
            env={
                "PATH": os.environ["PATH"],
                "APP_DATABASE_URL": database_url,
                "APP_FILE_STORE": "none",
                "APP_CACHE_URL": redis_server.url,
                "APP_TOKEN_SECRET": SECRET,
                "APP_LOG_OUTPUT": "json",
                "APP_LIMIT_DEFAULT": "",
                "APP_LIMIT_EXPORT": "",
                "APP_EXPORTS_PER_ACCOUNT": "50",
                "APP_EXPORTS_PER_WORKER": "50",
                "APP_DATABASE_READ_POOL_SIZE": "1",
                "APP_DATABASE_WRITE_POOL_SIZE": "1",
                "APP_DATABASE_POOL_TIMEOUT": "30",
                "APP_CACHE_TIMEOUT": "10",
            },
        )
    try:
        one = Served(process, path, log, postgresql)
        one.token = await first_token(one)
        await asyncio.to_thread(measure_few, one)
        await asyncio.to_thread(add_items, one, MANY - FEW)
        yield one
    finally:
        process.terminate()
        process.wait(20)
    assert "Traceback" not in log.read_text()
    await empty_stores(postgresql, redis_server)


async def first_token(served: Served) -> str:
    deadline = time.monotonic() + 40
    while not served.path.exists():
        assert served.process.poll() is None, served.log.read_text()
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    transport = httpx.AsyncHTTPTransport(uds=str(served.path))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", timeout=30
    ) as client:
        await register(client, "ann")
        return str((await log_in(client, "ann")).json()["access_token"])


def measure_few(served: Served) -> None:
    add_items(served, FEW)
    for _ in range(3):
        served.forget_peak()
        assert served.read_through() == FEW
    served.few = served.peak()


def test_it_takes_no_more_memory_for_many_items(served: Served) -> None:
    served.forget_peak()
    assert served.read_through() == MANY
    assert served.peak() - served.few < MOST_MEMORY


def test_each_line_is_one_item(served: Served) -> None:
    items = served.export()
    assert [item["id"] for item in items] == list(range(1, MANY + 1))
    with served.client() as client:
        assert items[-1] == client.get(f"/api/v1/items/{MANY}").json()


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_nobody_asked_for_breaks_nothing(served: Served, announced: bool) -> None:
    # Larger than bodies may be that are kept, and than what waits unread on the way.
    body = b"x" * 16 * 1024 * 1024
    served.forget_peak()
    with served.client() as client:
        content = body if announced else iter([body])
        with client.stream("GET", PATH, content=content) as answer:
            assert answer.status_code == 200
            assert sum(piece.count(b"\n") for piece in answer.iter_raw()) == MANY
            connection = answer.extensions["network_stream"]
        again = client.get("/api/v1/items?limit=1")
        assert again.status_code == 200
        assert again.extensions["network_stream"] is connection
    assert served.peak() - served.few < MOST_MEMORY


def test_clients_that_stop_reading_hold_up_nobody(served: Served) -> None:
    before = served.exports_ended()
    served.forget_peak()
    with ExitStack() as stack, served.client() as client:
        connections = [stack.enter_context(served.begun()) for _ in range(STALLED)]
        deadline = time.monotonic() + 20
        while set(served.connections()) != {"idle"}:
            assert time.monotonic() < deadline, "An export waits with a connection in its hands."
            time.sleep(0.1)
        # Nothing of the one connection for reading or of the one for transactions is taken.
        item = {"title": "Torch", "price": "1"}
        for _ in range(5):
            assert client.get("/api/v1/items?limit=1").status_code == 200
            made = client.post("/api/v1/items", json=item)
            assert made.status_code == 201
            gone = client.delete(f"/api/v1/items/{made.json()['id']}")
            assert gone.status_code == 204
        assert served.exports_ended() == before
        assert served.peak() - served.few < 2 * MOST_MEMORY
        # They may go on whenever they like.
        whole = b""
        while not whole.endswith(b"0\r\n\r\n"):
            piece = connections[0].recv(1 << 20)
            assert piece, "The export broke off."
            whole += piece
        assert whole.count(b'"owner_id"') == MANY


def test_clients_that_are_cut_off_leave_nothing_behind(served: Served) -> None:
    before = served.exports_ended()
    for _ in range(CUT_OFF):
        with served.begun() as connection:
            connection.recv(1 << 16)
    deadline = time.monotonic() + 30
    while served.exports_ended() < before + CUT_OFF:
        assert time.monotonic() < deadline, "An export goes on for nobody."
        time.sleep(0.1)
    with served.client() as client:
        for _ in range(20):
            assert client.get("/api/v1/items?limit=1").status_code == 200
    assert served.connections() in (["idle"], ["idle", "idle"])
    assert served.read_through() == MANY


def test_each_item_is_there_once_while_others_come_and_go(served: Served) -> None:
    gone = [MANY - 7 * number for number in range(200)]
    ended = threading.Event()

    def change() -> None:
        for one in gone:
            served.sql(
                f"DELETE FROM items WHERE id = {one};"
                "INSERT INTO items (owner_id, title, price) VALUES (1, 'Newcomer', 1)"
            )
            if ended.is_set():
                return

    others = threading.Thread(target=change)
    others.start()
    try:
        found = [item["id"] for item in served.export()]
    finally:
        ended.set()
        others.join()
    assert len(found) == len(set(found))
    assert found == sorted(found)
    stayed = set(range(1, MANY + 1)) - set(gone)
    assert stayed <= set(found)
    # Whatever else is in it had come by then, or had not gone yet.
    assert all(one > MANY for one in set(found) - stayed - set(gone))
