"""A host in a folder: the real operation and real sockets, with stand-ins for systemd and uv."""

import contextlib
import dataclasses
import hashlib
import http.client
import http.server
import io
import json
import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slipway_release.settings import Settings, parse

HERE = Path(__file__).parent
PYTHON = os.path.realpath(sys.executable)
KIND = f"{sys.version_info.major}.{sys.version_info.minor}-{platform.machine()}"
UV = """#!/bin/sh
for word in "$@"; do case "$word" in --python=/*) python="${word#--python=}" ;; esac; done
case "$1" in
venv) mkdir -p .venv/bin && ln -s "$python" .venv/bin/python ;;
pip) if grep -q no_environment behaviour.json; then echo "hash mismatch for quay"; exit 1; fi ;;
esac
"""


def wheel(name: str, files: Mapping[str, str]) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return output.getvalue()


def artifact(
    path: Path, version: str, tree: Mapping[str, str], target: str = KIND, **changes: object
) -> str:
    """Write an artifact and return its checksum."""
    uv = "wheels/uv-0.0.1-py3-none-any.whl"
    files = {f"tree/{name}": text.encode() for name, text in tree.items()}
    files[f"requirements/{target}.txt"] = b""
    files[uv] = wheel("uv", {"uv-0.0.1.data/scripts/uv": UV})
    manifest: dict[str, Any] = {
        "format": 1,
        "name": "quay",
        "version": version,
        "tag": "a" * 40,
        "commit": hashlib.sha1(repr(tree).encode()).hexdigest(),
        "files": {name: describe(data) for name, data in files.items()},
        "links": {},
        "targets": {target: {"requirements": f"requirements/{target}.txt", "wheels": [], "uv": uv}},
        **changes,
    }
    with tarfile.open(path, "w") as tar:
        for name, data in {"manifest.json": json.dumps(manifest).encode(), **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    path.chmod(0o644)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe(data: bytes) -> dict[str, object]:
    checksum = hashlib.sha256(data).hexdigest()
    return {"sha256": checksum, "size": len(data), "mode": 0o644, "installed": 0, "entries": 0}


def ask(path: Path, page: str = "/health", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("localhost", timeout=2)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(2)
        connection.sock.connect(str(path))
        connection.request("GET", page, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Nginx(http.server.ThreadingHTTPServer):
    """Passes requests to the socket that `current` leads to, as the real one does."""

    daemon_threads = True
    broken = False

    def __init__(self, upstream: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.upstream = upstream
        self.records = upstream.parents[2] / "said/nginx.records"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class _Passing(http.server.BaseHTTPRequestHandler):
    server: Nginx

    def do_GET(self) -> None:
        try:
            status, body = ask(self.server.upstream, self.path, **{"X-From-Nginx": "1"})
        except OSError:
            status, body = 502, b""
        record = {
            "at": time.time(),
            "host": "127.0.0.1",
            "path": self.path,
            "status": status,
            "upstream_status": str(status),
        }
        with self.server.records.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        self.send_response(502 if self.server.broken else status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    status: int
    text: str


class World:
    """One host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("etc", "srv/releases", "state/incoming", "run", "units", "said"):
            (folder / name).mkdir(parents=True)
        self.nginx = Nginx(folder / "srv/current/web.sock")
        values: dict[str, object] = {
            "app": "quay",
            "root": f"{folder}/srv",
            "state": f"{folder}/state",
            "sockets": f"{folder}/run",
            "lock": f"{folder}/lock/quay.lock",
            "deploy_user": pwd.getpwuid(os.geteuid()).pw_name,
            "python": PYTHON,
            "health_path": "/health",
            "ready_path": "/health/ready",
            "version_key": "release",
            "smoke_url": f"http://127.0.0.1:{self.nginx.server_port}/health",
            "smoke_address": "127.0.0.1",
            "smoke_certificates": "",
            "smoke_certificate_name": "",
            "has_preflight": True,
            "has_migrations": True,
            "has_contract": True,
            "has_restore_point": False,
            "keep_restore_points": 3,
            "keep": 3,
            "ready_seconds": 5.0,
            "smoke_seconds": 2.0,
            "watch_seconds": 0.0,
            "watch_error_ratio": 0.05,
            "watch_minimum_requests": 20,
            "warm_up_requests": 2,
            "free_megabytes": 0,
            "metrics": f"{folder}/state/metrics.prom",
            "announcements": f"{folder}/etc/quay/announcements.json",
            "run_properties": f"{folder}/etc/quay/run.conf",
            "console_command": "",
            "workers": [],
            "timers": [],
        }
        self.values = values
        self.change()
        self.settings: Settings = parse(json.dumps(values), "the world")
        self.environment = {
            "PATH": f"{HERE}/fakes:/usr/bin:/bin",
            "WORLD": str(folder),
        }

    def change(self, **changes: object) -> None:
        """Write the settings of the service."""
        self.values.update(changes)
        (self.folder / "etc/quay.json").write_text(json.dumps(self.values))

    def add(self, version: str, **behaviour: object) -> str:
        """Put an artifact where the controller does; `revisions` are those of its manifest."""
        revisions = behaviour.pop("revisions", [])
        tree = {"behaviour.json": json.dumps(behaviour), "main.py": f"VERSION = {version!r}\n"}
        return artifact(self.settings.artifact(version), version, tree, revisions=revisions)

    def popen(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PYTHON, "-I", str(HERE / "slipway.py"), *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> Outcome:
        """Run the command to its end."""
        with self.popen(*arguments, **environment) as process:
            text, _ = process.communicate(timeout=30)
        return Outcome(process.returncode, text)

    def release(self, version: str, **behaviour: object) -> Outcome:
        """Release a version as an operator does."""
        return self.run("release", version, f"--sha256={self.add(version, **behaviour)}")

    def operate(self, verb: str, *arguments: str, **environment: str) -> Outcome:
        """Run an operation without a unit, so that its process is ours."""
        stamp = f"--operation={time.time_ns()}"
        outcome = self.run("_run", verb, *arguments, "--by=tester", stamp, **environment)
        log = self.settings.state / "operations" / f"{stamp.partition('=')[2]}.log"
        return Outcome(outcome.status, outcome.text + (log.read_text() if log.exists() else ""))

    def live(self) -> str | None:
        """The version that answers the public, None when none does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.nginx.server_port, timeout=2)
        try:
            connection.request("GET", "/health")
            response = connection.getresponse()
            body = response.read()
            return str(json.loads(body)["release"]) if response.status == 200 else None
        finally:
            connection.close()

    @contextlib.contextmanager
    def public(self) -> Iterator[None]:
        """Have the public ask for pages all the time."""
        ended = threading.Event()

        def ask_on() -> None:
            while not ended.wait(0.01):
                with contextlib.suppress(OSError, http.client.HTTPException):
                    connection = http.client.HTTPConnection(
                        "127.0.0.1", self.nginx.server_port, timeout=2
                    )
                    connection.request("GET", "/page")
                    connection.getresponse().read()
                    connection.close()

        thread = threading.Thread(target=ask_on)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def current(self) -> str | None:
        link = self.settings.current
        return str(link.readlink()).removeprefix("releases/") if link.is_symlink() else None

    def running(self) -> set[str]:
        names = (path.name for path in (self.folder / "units").glob("quay@*.service.json"))
        return {name.removeprefix("quay@").removesuffix(".service.json") for name in names}

    def verdict(self, version: str) -> str | None:
        path = self.settings.state / "releases" / f"{version}.json"
        return str(json.loads(path.read_text())["verdict"]) if path.exists() else None

    def power_cut(self) -> None:
        """End everything that runs, and forget all that was in memory."""
        for path in (self.folder / "units").glob("*.json"):
            process = json.loads(path.read_text()).get("pid")
            if process:
                os.kill(process, signal.SIGKILL)
            path.unlink()
        for path in (self.folder / "run").iterdir():
            path.unlink()

    def adopt(self, other: "World") -> None:
        """Become a copy of another host, with what it serves."""
        for name in ("srv", "state"):
            shutil.rmtree(self.folder / name)
            shutil.copytree(other.folder / name, self.folder / name, symlinks=True)
        for link in self.settings.releases.glob("*/web.sock"):
            link.unlink()
            link.symlink_to(self.settings.sockets / f"{link.parent.name}.sock")
        command = [str(HERE / "fakes/systemctl"), "start", f"quay@{self.current()}.service"]
        subprocess.run(command, env=self.environment, check=True)
        self.wait_for(f"run/{self.current()}.ready")

    def wait_for(self, path: str, *, there: bool = True) -> None:
        """Wait until a file comes, or goes."""
        deadline = time.monotonic() + 10
        while (self.folder / path).exists() != there:
            assert time.monotonic() < deadline, f"{path} should {'' if there else 'not '}be there"
            time.sleep(0.02)


@contextlib.contextmanager
def host(folder: Path) -> Iterator[World]:
    """A host that ends with its context."""
    made = World(folder)
    try:
        yield made
    finally:
        made.power_cut()
        made.nginx.close()
