"""The service and what it stands on, as a host runs them, for a benchmark on this machine."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jinja2
import yaml

from tests.performance.applications import PAGE
from tests.processes import free_port
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
_LIMITS = {"lean": ""}
APPLICATIONS = ("harbour", "lean", "bare", "kept")
# Of the benchmark of files: a service that writes bodies to files, and nothing else.
RAW = "raw"
POLICIES = (
    "default",
    "login",
    "register",
    "mail",
    "secret",
    "profile",
    "search",
    "export",
    "upload",
    "report",
)
_START_TIMEOUT = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """Gunicorn with one application on a port of the loopback, and where Nginx asks it.

    Attributes:
        process: Gunicorn's master.
        port: its own.
        front: Nginx's.
    """

    process: subprocess.Popen[bytes]
    port: int
    front: int

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def front_url(self) -> str:
        """Where Nginx passes on what it is asked."""
        return f"http://127.0.0.1:{self.front}"

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
    """What an application needs: a database, a cache, a journal and a folder.

    Attributes:
        fronts: the ports on which Nginx passes requests on to the applications.
    """

    postgresql: PostgreSQL
    redis: RedisServer
    folder: Path
    fronts: dict[str, int]

    @property
    def files(self) -> Path:
        """The folder of the files of accounts."""
        return self.folder / "files"

    def environment(self, name: str) -> dict[str, str]:
        """What the unit of a release sets, and what the benchmark's own applications need."""
        numbers = self.folder / f"numbers-{name}"
        numbers.mkdir(exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'roles/app/files'}",
            "PROMETHEUS_MULTIPROC_DIR": str(numbers),
            "RUNTIME_DIRECTORY": str(numbers),
            "CREDENTIALS_DIRECTORY": str(self.folder / "credentials"),
            "APP_DATABASE_URL": self.postgresql.url("harbour"),
            "APP_CACHE_URL": self.redis.url,
            "APP_LOG_OUTPUT": "journal",
            **{f"APP_LIMIT_{policy.upper()}": _LIMITS.get(name, LIMIT) for policy in POLICIES},
            "APP_FILE_FOLDER": str(self.files),
            "APP_FILE_REDIRECT": "/.files/",
            "BENCH_JOURNAL": str(self.folder / "journal"),
            "BENCH_DATABASE": str(self.postgresql.folder),
            # The first caller: session 1 of user 1.
            "BENCH_CALLER": json.dumps([1, 1]),
        }


@contextlib.contextmanager
def stage(applications: Sequence[str] = APPLICATIONS) -> Iterator[Stage]:
    """Start what applications stand on, and make the tables."""
    with contextlib.ExitStack() as stack:
        postgresql = stack.enter_context(running_postgresql(connections=200))
        redis = stack.enter_context(running_redis())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        name = postgresql.create_database("harbour")
        migrated = alembic(postgresql.url(name, OWNER), "upgrade", "head")
        if migrated.returncode:
            raise SystemExit(migrated.stderr)
        (folder / "credentials").mkdir()
        (folder / "files").mkdir()
        (folder / "credentials/app_token_secret").write_text(SECRET)
        (folder / "gunicorn.conf.py").write_text(gunicorn_settings())
        sink = [sys.executable, "-m", "tests.performance.journal_sink", str(folder / "journal")]
        stack.enter_context(running(sink, folder / "sink.log", dict(os.environ)))
        fronts = {name: free_port() for name in applications}
        (folder / "nginx.conf").write_text(nginx_settings(folder, fronts))
        nginx = ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        stack.enter_context(running(nginx, folder / "nginx.log", dict(os.environ)))
        yield Stage(postgresql, redis, folder, fronts)


def nginx_settings(folder: Path, fronts: Mapping[str, int]) -> str:
    """What the role's site says of passing on, without what comes before: TLS, limits, its log."""
    user = "user root;" if os.geteuid() == 0 else ""
    sites = "".join(
        f"""
        upstream {name} {{
            server unix:{folder / name}.sock max_fails=0;
            keepalive 64;
            keepalive_timeout 2s;
            keepalive_time 1s;
        }}
        server {{
            listen 127.0.0.1:{port};
            location / {{ proxy_pass http://{name}; }}
            location ^~ /api/v1/files/upload {{
                client_max_body_size 2g;
                client_body_buffer_size 256k;
                proxy_request_buffering off;
                proxy_pass http://{name};
            }}
            location ^~ /.files/ {{
                internal;
                alias {folder}/files/published/;
                disable_symlinks on from={folder}/files/published/;
                aio threads;
                sendfile_max_chunk 1m;
            }}
            location ^~ /plain/ {{ alias {folder}/files/published/; }}
        }}"""
        for name, port in fronts.items()
    )
    return f"""{user}
    daemon off;
    worker_processes auto;
    pid {folder}/nginx.pid;
    error_log stderr warn;
    events {{ worker_connections 1024; multi_accept on; }}
    http {{
        access_log off;
        sendfile on;
        tcp_nopush on;
        keepalive_requests 1000000;
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host "";
        proxy_set_header Forwarded "";
        proxy_set_header X-Request-ID $request_id;
        proxy_next_upstream off;{sites}
    }}
    """


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
def served(
    on: Stage,
    name: str,
    module: str = "applications",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Serve one of the benchmark's applications until the end."""
    port = free_port()
    options = ["--no-control-socket", f"--config={on.folder / 'gunicorn.conf.py'}"]
    binds = [f"--bind=127.0.0.1:{port}", f"--bind=unix:{on.folder / name}.sock"]
    command = [sys.executable, "-m", "gunicorn", *options, *binds]
    application = f"tests.performance.{module}:{name}()"
    log = on.folder / f"{name}.log"
    said = {**on.environment(name), **(environment or {})}
    with running([*command, application], log, said) as process:
        # Nginx passes on only to those that are asked by way of it.
        server = Server(process, port, on.fronts.get(name, 0))
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
