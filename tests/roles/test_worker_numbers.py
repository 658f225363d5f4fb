"""What Gunicorn's workers have counted, after many of them have been replaced."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.roles.rendering import ROOT

SERVICE = """
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

ANSWERS = Counter("answers", "Requests that were answered.")
ALIVE = Gauge("alive", "Workers that live.", multiprocess_mode="livesum")
ALIVE.inc()


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    if scope["path"] == "/":
        ANSWERS.inc()
    else:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        body = generate_latest(registry)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
REQUESTS = 120
WORKERS = 2


def ask(path: Path, url: str) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=20) as client:
        return client.get(f"http://quay{url}", headers={"Connection": "close"})


def test_a_worker_goes_on_with_the_numbers_of_the_one_it_replaces(
    rendered: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "quay.py").write_text(SERVICE)
    (tmp_path / "numbers").mkdir()
    path, settings = tmp_path / "web.sock", rendered["debian-12"] / "gunicorn.conf.py"
    options = [f"--config={settings}", f"--bind=unix:{path}"]
    options += [
        f"--workers={WORKERS}",
        "--max-requests=10",
        "--max-requests-jitter=0",
        "--log-level=info",
    ]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{tmp_path}:{ROOT / 'roles/app/files'}",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "numbers"),
    }
    command = [sys.executable, "-m", "gunicorn", "quay:app", *options]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            deadline = time.monotonic() + 30
            while not path.exists():
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.1)
            for _ in range(REQUESTS):
                assert ask(path, "/").status_code == 200
            # prometheus-client cannot read the file that a worker is just making.
            while f"alive {WORKERS}.0" not in (told := ask(path, "/metrics").text.splitlines()):
                assert time.monotonic() < deadline, told
                time.sleep(0.2)
            assert f"answers_total {REQUESTS}.0" in told
        finally:
            server.terminate()
            server.wait(20)
    started = (tmp_path / "log").read_text().count("Booting worker")
    # How many it takes differs: each answers until it notices that it has answered its ten.
    assert started >= 3 * WORKERS
    # Two that end may still be there beside two that begin.
    assert len(list((tmp_path / "numbers").glob("counter_*"))) <= 2 * WORKERS
