"""The service under Gunicorn, as a host runs it: several workers on a Unix socket."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.app.conftest import SECRET
from tests.services import ROOT, RedisServer


@pytest.fixture
def served(
    database_url: str, redis_server: RedisServer, tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    credentials, numbers = tmp_path / "credentials", tmp_path / "numbers"
    credentials.mkdir()
    numbers.mkdir()
    (credentials / "app_token_secret").write_text(SECRET)
    path = tmp_path / "web.sock"
    log = (tmp_path / "log").open("wb")
    options = ["--no-control-socket", "--bind", f"unix:{path}", "--workers", "2"]
    options += ["--worker-class", "uvicorn_worker.UvicornWorker", "--forwarded-allow-ips", "*"]
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "app.main:create_app()", *options],
        cwd=ROOT,
        stdout=log,
        stderr=log,
        env={
            "PATH": os.environ["PATH"],
            "APP_DATABASE_URL": database_url,
            "APP_CACHE_URL": redis_server.url,
            "APP_FILE_FOLDER": str(tmp_path),
            "APP_RELEASE": "v1.2.3",
            "CREDENTIALS_DIRECTORY": str(credentials),
            "PROMETHEUS_MULTIPROC_DIR": str(numbers),
        },
    )
    try:
        yield server, path
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def get(path: Path, url: str) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=40) as client:
        return client.get(f"http://localhost{url}", headers={"X-Forwarded-For": "198.51.100.9"})


def test_two_workers_serve_count_together_and_stop_in_peace(
    served: tuple[subprocess.Popen[bytes], Path], tmp_path: Path
) -> None:
    server, path = served
    deadline = time.monotonic() + 40
    # Gunicorn listens before its workers answer; the first requests wait for them.
    while not path.exists():
        assert server.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert get(path, "/health/ready").status_code == 200
    for _ in range(20):
        assert get(path, "/health").json()["release"] == "v1.2.3"
    text = get(path, "/metrics").text
    assert 'http_requests_total{method="GET",route="/health",status="200"} 20.0' in text
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
    written = (tmp_path / "log").read_text()
    assert '"client_address":"198.51.100.9"' in written
    assert written.count("service.stopped") == 2
    assert "Traceback" not in written
    assert SECRET not in written
