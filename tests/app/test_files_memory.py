"""Uploads to the service as a process of its own: its memory, and what is left when they end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.file_stores.half import remove_half
from tests.app.conftest import PASSWORD, SECRET
from tests.app.test_files import FILES, UPLOAD, kept
from tests.processes import forget_peak, peak_memory
from tests.services import ROOT, RedisServer

MIB = 1024 * 1024
GIB = 1024 * MIB
# The largest that may come, and others beside it.
SIZES = (GIB, 200 * MIB, 200 * MIB, 200 * MIB)
HEAD = b'--line\r\nContent-Disposition: form-data; name="file"; filename="large.txt"\r\n\r\n'
END = b"\r\n--line--\r\n"


@dataclass(frozen=True)
class Served:
    """A running instance, and somebody who has an account."""

    process: "subprocess.Popen[bytes]"
    worker: int
    path: Path
    folder: Path
    log: Path
    token: str

    def client(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.path))
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(transport=transport, base_url="http://localhost", headers=headers)

    def begin(self, size: int, *, token: str | None = None) -> socket.socket:
        """Begin an upload of so many bytes."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(120)
        connection.connect(str(self.path))
        length = len(HEAD) + size + len(END)
        lines = [
            f"POST {UPLOAD} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {token or self.token}",
            "Content-Type: multipart/form-data; boundary=line",
            f"Content-Length: {length}",
            "Connection: close",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + HEAD)
        return connection

    def upload(self, size: int) -> int:
        """Upload so many bytes, and return the status."""
        with self.begin(size) as connection:
            block = b"x" * MIB
            for _ in range(size // MIB):
                connection.sendall(block)
            connection.sendall(END)
            return int(connection.recv(4096).split()[1])

    def peak(self) -> int:
        """Return the most memory that the worker has had, in bytes, and count anew."""
        found = peak_memory(self.worker)
        forget_peak(self.worker)
        return found


@pytest.fixture
def served(
    empty: None, database_url: str, redis_server: RedisServer, tmp_path: Path
) -> Iterator[Served]:
    folder, path, log = tmp_path / "files", tmp_path / "web.sock", tmp_path / "log"
    folder.mkdir()
    options = ["--no-control-socket", "--bind", f"unix:{path}", "--workers", "1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "app.main:create_app()", *options),
                *("--worker-class", "uvicorn_worker.UvicornWorker"),
            ],
            cwd=ROOT,
            stdout=output,
            stderr=output,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONDONTWRITEBYTECODE": "1",
                "APP_DATABASE_URL": database_url,
                "APP_CACHE_URL": redis_server.url,
                "APP_TOKEN_SECRET": SECRET,
                "APP_FILE_FOLDER": str(folder),
                "APP_LIMIT_UPLOAD": "",
                "APP_UPLOADS_PER_ACCOUNT": str(len(SIZES)),
            },
        )
    try:
        yield _ready(process, path, folder, log)
    finally:
        process.terminate()
        process.wait(20)


def _ready(process: "subprocess.Popen[bytes]", path: Path, folder: Path, log: Path) -> Served:
    deadline = time.monotonic() + 40
    while not path.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=40
    ) as client:
        account = {"username": "ann", "email": "ann@example.com", "password": PASSWORD}
        assert client.post("/api/v1/users/register", json=account).status_code == 201
        form = {"username": "ann", "password": PASSWORD}
        token = client.post("/api/v1/auth/token", data=form).json()["access_token"]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return Served(process, int(children[0]), path, folder, log, token)


def until_nothing_is_half(served: Served) -> None:
    deadline = time.monotonic() + 10
    while list((served.folder / "incoming").iterdir()):
        assert time.monotonic() < deadline, served.log.read_text()[-2000:]
        time.sleep(0.05)


def test_several_large_uploads_at_once_take_little_memory(served: Served) -> None:
    assert served.upload(MIB) == 201
    before = served.peak()
    with ThreadPoolExecutor(len(SIZES)) as pool:
        statuses = list(pool.map(served.upload, SIZES))
    assert statuses == [201] * len(SIZES)
    grown = served.peak() - before
    assert grown < 48 * MIB, f"{grown / MIB:.0f} MiB for {sum(SIZES) // MIB} MiB"
    assert len(kept(served.folder)) == len(SIZES) + 1
    with served.client() as client:
        (largest,) = [one["id"] for one in client.get(FILES).json()["files"] if one["size"] == GIB]
        with client.stream("GET", f"{FILES}/{largest}", timeout=60) as answer:
            assert sum(len(piece) for piece in answer.iter_raw()) == GIB
    grown = served.peak() - before
    assert grown < 48 * MIB, f"{grown / MIB:.0f} MiB for a download of 1 GiB"


@pytest.mark.parametrize(
    ("size", "token", "status"), [(MIB, "wrong", 401), (2 * GIB, None, 413), (10 * GIB, None, 413)]
)
def test_a_refusal_comes_before_the_body(
    served: Served, size: int, token: str | None, status: int
) -> None:
    with served.begin(size, token=token) as connection:
        assert int(connection.recv(4096).split()[1]) == status


def test_an_upload_that_is_cut_off_leaves_nothing_and_no_error(served: Served) -> None:
    connection = served.begin(50 * MIB)
    connection.sendall(b"x" * 20 * MIB)
    deadline = time.monotonic() + 10
    while not kept(served.folder):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    connection.close()
    until_nothing_is_half(served)
    assert kept(served.folder) == []
    with served.client() as client:
        assert client.get(FILES).json()["total"] == 0
    lines = [json.loads(line) for line in served.log.read_text().splitlines() if line[:1] == "{"]
    assert [line["http_status"] for line in lines if line.get("http_route") == UPLOAD] == [400]
    assert "Traceback" not in served.log.read_text()


def test_a_worker_that_is_killed_leaves_a_half_that_the_sweep_may_take(served: Served) -> None:
    with served.begin(50 * MIB) as connection:
        connection.sendall(b"x" * 20 * MIB)
        deadline = time.monotonic() + 10
        while not kept(served.folder):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (half,) = kept(served.folder)
        assert not remove_half(half)
        os.kill(served.worker, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while not remove_half(half):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert kept(served.folder) == []


def test_a_service_that_stops_leaves_nothing_half(served: Served) -> None:
    with served.begin(50 * MIB) as connection:
        connection.sendall(b"x" * 20 * MIB)
        deadline = time.monotonic() + 10
        while not kept(served.folder):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        served.process.terminate()
        time.sleep(0.5)
        # It lets what is under way come to its end.
        connection.sendall(b"x" * 30 * MIB + END)
        assert b" 201 " in connection.recv(4096)
    assert served.process.wait(20) == 0
    assert len(kept(served.folder)) == 1
