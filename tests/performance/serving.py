"""The service and what it stands on, as a host runs them, for a benchmark on this machine."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jinja2
import yaml

from tests.performance.applications import PAGE
from tests.services import (
    OWNER,
    ROOT,
    PostgreSQL,
    RedisServer,
    alembic,
    running_postgresql,
    running_redis,
)

PASSWORD = "Capstan-and-4-anchors"
SECRET = "a-secret-for-measurements-that-is-long-enough-for-every-algorithm"
WORKERS = 2
# All limits count, and none refuses.
LIMIT = "100000000/minute"
POLICIES = ("default", "login", "register", "mail", "secret", "profile", "search")
_START_TIMEOUT = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """Gunicorn with one application on a port of the loopback."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}"

    def seconds(self) -> float:
        """The CPU time that its workers have taken."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        fields = [
            Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            for child in children.split()
        ]
        return sum(int(one[11]) + int(one[12]) for one in fields) / _TICKS


@dataclass(frozen=True)
class Stage:
    """What an application needs: a database, a cache, a journal and a folder."""

    postgresql: PostgreSQL
    redis: RedisServer
    folder: Path

    def environment(self, name: str) -> dict[str, str]:
        """What the unit of a release sets, and what the benchmark's own applications need."""
        numbers = self.folder / f"numbers-{name}"
        numbers.mkdir(exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'roles/app/files'}",
            "PROMETHEUS_MULTIPROC_DIR": str(numbers),
            "CREDENTIALS_DIRECTORY": str(self.folder / "credentials"),
            "APP_DATABASE_URL": self.postgresql.url("harbour"),
            "APP_CACHE_URL": self.redis.url,
            "APP_LOG_OUTPUT": "journal",
            **{f"APP_LIMIT_{policy.upper()}": LIMIT for policy in POLICIES},
            "BENCH_JOURNAL": str(self.folder / "journal"),
            "BENCH_DATABASE": str(self.postgresql.folder),
            # The first caller: session 1 of user 1.
            "BENCH_CALLER": json.dumps([1, 1]),
        }


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Start what an application stands on, and fill the tables."""
    with contextlib.ExitStack() as stack:
        postgresql = stack.enter_context(running_postgresql(connections=200))
        redis = stack.enter_context(running_redis())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        name = postgresql.create_database("harbour")
        migrated = alembic(postgresql.url(name, OWNER), "upgrade", "head")
        if migrated.returncode:
            raise SystemExit(migrated.stderr)
        (folder / "credentials").mkdir()
        (folder / "credentials/app_token_secret").write_text(SECRET)
        (folder / "gunicorn.conf.py").write_text(gunicorn_settings())
        sink = [sys.executable, "-m", "tests.performance.journal_sink", str(folder / "journal")]
        stack.enter_context(running(sink, folder / "sink.log", dict(os.environ)))
        yield Stage(postgresql, redis, folder)


def gunicorn_settings() -> str:
    """The file that the role writes, with its defaults and the workers of the benchmark."""
    role = ROOT / "roles/app"
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    surroundings = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)
    surroundings.filters["comment"] = lambda text: f"# {text}"
    template = surroundings.from_string((role / "templates/gunicorn.conf.py.j2").read_text())
    values: dict[str, Any] = {"ansible_managed": "", "app_name": "harbour", "app_workers": WORKERS}
    # No worker is replaced in the midst of a round.
    return template.render({**defaults, **values, "app_max_requests": 0})


@contextlib.contextmanager
def served(on: Stage, name: str) -> Iterator[Server]:
    """Serve one of the benchmark's applications until the end."""
    port = free_port()
    options = ["--no-control-socket", f"--config={on.folder / 'gunicorn.conf.py'}"]
    command = [sys.executable, "-m", "gunicorn", *options, f"--bind=127.0.0.1:{port}"]
    application = f"tests.performance.applications:{name}()"
    log = on.folder / f"{name}.log"
    with running([*command, application], log, on.environment(name)) as process:
        server = Server(process, port)
        wait(server, log)
        yield server


@contextlib.contextmanager
def running(
    command: list[str], log: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait(server: Server, log: Path) -> None:
    """Wait until an application answers."""
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{server.url}/health", timeout=5)
            return
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"The server did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_caller(server: Server) -> str:
    """Register, log in, and store the items of the page; answer the access token."""
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=30) as client:
        user = {"username": "sailor", "email": "sailor@example.com", "password": PASSWORD}
        client.post("/users/register", json=user).raise_for_status()
        form = {"username": "sailor", "password": PASSWORD}
        token = str(client.post("/auth/token", data=form).raise_for_status().json()["access_token"])
        client.headers["Authorization"] = f"Bearer {token}"
        for number in range(40):
            item = {"title": f"Anchor {number}", "price": "9.99", "description": "Of iron. " * 5}
            client.post("/items", json=item).raise_for_status()
        client.get(PAGE.removeprefix("/api/v1")).raise_for_status()
    return token
