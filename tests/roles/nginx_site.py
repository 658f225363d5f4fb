"""A real Nginx with the rendered site of another team's service."""

import dataclasses
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway_release.settings import Settings, parse
from tests.processes import free_port
from tests.release.test_parts import VALUES

NAME = "quay.example"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a client got."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


WORKERS = 2


@dataclasses.dataclass(frozen=True)
class Site:
    """Where the site listens, and the tool's settings for it."""

    plain: int
    tls: int
    webroot: Path
    settings: Settings
    master: int

    def ask(self, source: str, path: str = "/page", *, tls: bool = True) -> Answer:
        """Ask as a client with that address."""
        port = self.tls if tls else self.plain
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        plain = socket.create_connection(("127.0.0.1", port), 5, (source, 0))
        # The certificate is another test's.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection.sock = context.wrap_socket(plain, server_hostname=NAME) if tls else plain
        try:
            connection.request("GET", path, headers={"Host": NAME, "X-Request-ID": "abcd-1234"})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def becomes(self, source: str, code: str) -> Answer:
        """Wait for an answer: a reload takes effect a moment after its command.

        The workers of before go on to accept for another moment beside the new ones.
        """
        deadline = time.monotonic() + 10
        while (answer := self.ask(source)).code != code or self.workers() != WORKERS:
            assert time.monotonic() < deadline, answer.body
            time.sleep(0.05)
        return answer

    def logged(self, request_id: str) -> dict[str, Any]:
        """What is in its log about a request, which is written after the answer."""
        deadline = time.monotonic() + 10
        while True:
            for line in (self.webroot.parent / "access.log").read_text().splitlines():
                record: dict[str, Any] = json.loads(line)
                if record["request_id"] == request_id:
                    return record
            assert time.monotonic() < deadline, request_id
            time.sleep(0.05)

    def workers(self) -> int:
        """How many workers Nginx has, old ones included."""
        children = Path(f"/proc/{self.master}/task/{self.master}/children")
        return len(children.read_text().split())


def let_in(folder: Path) -> None:
    """Let Nginx's workers, which are another user's, come to a folder of a test."""
    above = Path(tempfile.gettempdir()).resolve()
    for one in (folder, *folder.parents):
        if one == above:
            break
        one.chmod(0o755)


def program() -> str:
    """Where Nginx is on this machine."""
    found = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    assert found, "nginx is missing: `make test` installs what the tests need"
    return found


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def configure(folder: Path, rendered: Path, ports: tuple[int, int]) -> Path:
    """Bring the rendered files to this machine's ports and folders."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", f"/CN={NAME}"),
            *("-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")),
        ],
        check=True,
        capture_output=True,
    )
    changes = {
        "/etc/slipway/tls/quay/": f"{folder}/",
        "/etc/nginx/conf.d/*.conf": str(folder / "site.conf"),
        "include /etc/nginx/modules-enabled/*.conf;": "",
        "/run/nginx.pid": str(folder / "pid"),
        "worker_processes auto": f"worker_processes {WORKERS}",
        "syslog:server=unix:/dev/log,nohostname,tag=nginx_error": "stderr",
        "access_log syslog:server=unix:/dev/log,nohostname,tag=nginx quay;": (
            f"access_log {folder}/access.log quay;"
        ),
        # Its files are unlinked as soon as they are open, but not the folders of two levels.
        "sendfile on;": f"sendfile on; proxy_temp_path {folder}/kept_answers 1 2;",
        "/var/lib/slipway/quay/": f"{folder}/state/",
        "/var/www/acme": str(folder / "webroot"),
        "/srv/quay/": f"{folder}/srv/",
        "listen [::]:80": "#",
        "listen [::]:443": "#",
        "listen 80": f"listen 127.0.0.1:{ports[0]}",
        "listen 443": f"listen 127.0.0.1:{ports[1]}",
    }
    for name in ("nginx.conf", "site.conf"):
        text = (rendered / name).read_text()
        for before, after in changes.items():
            text = text.replace(before, after)
        (folder / name).write_text(text)
    return folder / "nginx.conf"


@pytest.fixture
def site(
    rendered: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """The site, open; `nginx` and `systemctl` mean this Nginx."""
    ports = free_port(), free_port()
    # What every supported Nginx understands.
    file = configure(tmp_path, rendered["debian-12"], ports)
    nginx = program()
    (tmp_path / "bin").mkdir()
    for name, arguments in (("nginx", '"$@"'), ("systemctl", "-s reload")):
        script = tmp_path / "bin" / name
        script.write_text(f"#!/bin/sh\nexec {nginx} -c {file} {arguments}\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    challenge = tmp_path / "webroot/.well-known/acme-challenge"
    challenge.mkdir(parents=True)
    (challenge / "token").write_text("answer")
    let_in(tmp_path)
    state = tmp_path / "state"
    state.mkdir()
    settings = parse(json.dumps(VALUES), "quay.json")
    settings = dataclasses.replace(settings, state=state, metrics=state / "metrics.prom")
    with subprocess.Popen([nginx, "-c", str(file), "-g", "daemon off;"]) as process:
        try:
            wait_for(ports[1])
            yield Site(*ports, tmp_path / "webroot", settings, process.pid)
        finally:
            process.terminate()
