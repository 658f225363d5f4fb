"""A real Nginx with the rendered site, before a service that takes files and gives them out."""

import contextlib
import dataclasses
import http.client
import json
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.processes import free_port
from tests.roles.nginx_site import NAME, Answer, configure, let_in, program, wait_for

KEPT = bytes(range(256)) * 4096
EARLY = "Mon, 01 Jan 2024 00:00:00 GMT"
TAG = '"9f86d081884c7d65"'
DOWNLOAD = {
    "X-Accel-Redirect": "/.files/ab/kept",
    "Content-Type": "image/png",
    "Content-Disposition": "attachment; filename*=UTF-8''K%C3%B6ln.png",
    "Cache-Control": "private, no-cache",
    "ETag": TAG,
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'",
    "X-Request-ID": "abcd-1234",
}
LIST = "/api/v1/files"
PATH = f"{LIST}/7"
UPLOAD = f"{LIST}/upload"
REFUSED = b'{"error":{"code":"precondition_failed"}}'
EXPORT = "/api/v1/items/export"
BLOCK = bytes(65536)
BLOCKS = 1024
# What a browser of another origin gets beside a name of 251 characters and an end.
LONG = {
    "Content-Disposition": f'attachment; filename="{"_" * 251}.png"; '
    f"filename*=UTF-8''{'%F0%9F%9A%A2' * 251}.png",
    "Access-Control-Allow-Credentials": "true",
    "Access-Control-Allow-Origin": "https://app.quay.example",
    "Access-Control-Expose-Headers": "ETag, Location, Retry-After, X-Request-ID",
    "Permissions-Policy": ", ".join(f"feature-{number}=()" for number in range(40)),
    "Vary": "Origin",
}


class Service(BaseHTTPRequestHandler):
    """Gives out one file, and takes files of those who say who they are."""

    protocol_version = "HTTP/1.1"
    received: int
    sent: int

    def do_GET(self) -> None:
        """Have Nginx send the file, or another that is not what it seems."""
        if self.headers.get("If-None-Match") == TAG:
            self.answer(304, {"ETag": TAG})
        elif self.path == LIST:
            self.answer(200, {})
        elif self.path == EXPORT:
            self.send_blocks()
        elif self.path.endswith("/long"):
            self.answer(200, {**DOWNLOAD, **LONG})
        elif (tag := self.headers.get("If-Match", "*")) != "*":
            self.send_named(tag)
        else:
            name = self.path.rpartition("/")[2]
            other = {} if name == "7" else {"X-Accel-Redirect": f"/.files/ab/{name}"}
            self.answer(200, {**DOWNLOAD, **other})

    def do_HEAD(self) -> None:
        """Have Nginx say what it would send."""
        self.do_GET()

    def do_POST(self) -> None:
        """Take a body, and tell how much it was."""
        type(self).received = 0
        if "Authorization" not in self.headers:
            self.answer(401, {})
            # As uvicorn does it. Nginx meets a broken pipe where a service closes with parts of the
            # body unread, and answers 503 in its place.
            with contextlib.suppress(OSError):
                while self.rfile.read1(65536):
                    pass
            self.close_connection = True
            return
        rest = int(self.headers["Content-Length"])
        while rest and (part := self.rfile.read1(min(rest, 65536))):
            rest -= len(part)
            type(self).received += len(part)
        self.answer(201, {})

    def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != http.HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_named(self, tag: str) -> None:
        """Send the file if it is the one of the tag, or a part of it that is asked for."""
        if tag != TAG:
            self.answer(412, {"Content-Type": "application/json"}, REFUSED)
            return
        headers = {**DOWNLOAD, "X-Accel-Buffering": "no", "Accept-Ranges": "bytes"}
        del headers["X-Accel-Redirect"]
        if "Range" in self.headers:
            headers["Content-Range"] = f"bytes 1000-1999/{len(KEPT)}"
            self.answer(206, headers, KEPT[1000:2000])
        else:
            self.answer(200, headers, KEPT)

    def send_blocks(self) -> None:
        """Answer with more than buffers hold, and tell how much of it was taken."""
        self.send_response(200)
        self.send_header("Content-Length", str(BLOCKS * len(BLOCK)))
        self.end_headers()
        for number in range(BLOCKS):
            type(self).sent = number
            self.wfile.write(BLOCK)

    def address_string(self) -> str:
        """A Unix socket has none."""
        return "nginx"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Sockets(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves each connection in a thread."""

    daemon_threads = True


@dataclasses.dataclass(frozen=True)
class Site:
    """Where the site listens, and its folder."""

    port: int
    folder: Path

    def connect(self) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", self.port), 10)
        return context.wrap_socket(plain, server_hostname=NAME)

    def ask(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.sock = self.connect()
        try:
            always = {"Host": NAME, "X-Request-ID": "abcd-1234"}
            connection.request(method, path, headers={**always, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site(rendered: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site, before its service, with some files in its folder."""
    folder = tmp_path_factory.mktemp("site")
    port = free_port()
    # What every supported Nginx understands.
    file = configure(folder, rendered["debian-12"], (free_port(), port))
    published = folder / "srv/data/files/published/ab"
    published.mkdir(parents=True)
    (published / "kept").write_bytes(KEPT)
    (published / "link").symlink_to("/etc/passwd")
    (folder / "srv/current").mkdir()
    let_in(folder)
    path = folder / "srv/current/web.sock"
    with Sockets(str(path), Service) as service:
        path.chmod(0o666)
        threading.Thread(target=service.serve_forever, daemon=True).start()
        with subprocess.Popen([program(), "-c", str(file), "-g", "daemon off;"]) as process:
            try:
                wait_for(port)
                yield Site(port, folder)
            finally:
                process.terminate()
                service.shutdown()


def has_the_headers(answer: Answer) -> None:
    """Every header of the service's answer came through, once."""
    for name, value in DOWNLOAD.items():
        if name != "X-Accel-Redirect":
            assert answer.headers.get_all(name) == [value], name
    assert answer.headers.get_all("Strict-Transport-Security") == ["max-age=63072000"]
    assert "X-Accel-Redirect" not in answer.headers


def test_a_file_comes_with_what_the_service_says_of_it(site: Site) -> None:
    answer = site.ask(PATH, {"Accept-Encoding": "gzip"})
    assert (answer.status, answer.body) == (200, KEPT)
    has_the_headers(answer)
    assert answer.headers.get_all("Accept-Ranges") == ["bytes"]
    assert "Content-Encoding" not in answer.headers
    head = site.ask(PATH, method="HEAD")
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(KEPT)))


def test_the_list_of_files_is_no_download(site: Site) -> None:
    assert site.ask(LIST).status == 200


def test_a_part_of_it_can_be_asked_for(site: Site) -> None:
    answer = site.ask(PATH, {"Range": "bytes=1000-1999"})
    assert (answer.status, answer.body) == (206, KEPT[1000:2000])
    assert answer.headers["Content-Range"] == f"bytes 1000-1999/{len(KEPT)}"
    has_the_headers(answer)
    rest = site.ask(PATH, {"Range": "bytes=1000-", "If-Range": TAG})
    assert (rest.status, rest.body) == (206, KEPT[1000:])
    # What has become another file is sent whole.
    other = site.ask(PATH, {"Range": "bytes=1000-", "If-Range": '"another"'})
    assert (other.status, other.body) == (200, KEPT)


def test_what_the_client_has_is_not_sent_again(site: Site) -> None:
    answer = site.ask(PATH, {"If-None-Match": TAG})
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers.get_all("ETag") == [TAG]
    since = site.ask(PATH).headers["Last-Modified"]
    answer = site.ask(PATH, {"If-Modified-Since": since})
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers.get_all("X-Request-ID") == ["abcd-1234"]


def test_the_one_that_was_asked_for_comes_from_the_service_as_it_is(site: Site) -> None:
    # Which is later than the time of the file, and does not count beside the tag.
    named = {"If-Match": TAG, "If-Unmodified-Since": EARLY}
    answer = site.ask(PATH, named)
    assert (answer.status, answer.body) == (200, KEPT)
    has_the_headers(answer)
    answer = site.ask(PATH, {**named, "Range": "bytes=1000-1999"})
    assert (answer.status, answer.body) == (206, KEPT[1000:2000])
    assert answer.headers.get_all("Content-Range") == [f"bytes 1000-1999/{len(KEPT)}"]
    has_the_headers(answer)
    answer = site.ask(PATH, {"If-Match": '"another"'})
    assert (answer.status, answer.body) == (412, REFUSED)
    answer = site.ask(PATH, {"If-Match": "*"})
    assert (answer.status, answer.body) == (200, KEPT)


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        (PATH, {"Range": f"bytes={len(KEPT)}-"}, 416, "range_not_satisfiable"),
        (PATH, {"If-Unmodified-Since": EARLY}, 412, "precondition_failed"),
        # The row is there and the file is not.
        ("/api/v1/files/lost", {}, 404, "not_found"),
        ("/api/v1/files/link", {}, 404, "not_found"),
        ("/.files/ab/kept", {}, 404, "not_found"),
        ("/.files/", {}, 404, "not_found"),
        ("/%2efiles/ab/kept", {}, 404, "not_found"),
    ],
)
def test_what_cannot_be_had_is_told_in_the_shape_of_the_api(
    site: Site, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = site.ask(path, headers)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers.get_all("Content-Type") == ["application/json"]
    # Nginx keeps what the service has said of the file beside it.
    assert "no-store" in (answer.headers.get_all("Cache-Control") or [])
    assert answer.headers.get_all("X-Request-ID") == ["abcd-1234"]
    assert len(answer.headers.get_all("Strict-Transport-Security") or []) == 1
    if status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        assert answer.headers["Content-Range"] == f"bytes */{len(KEPT)}"


def head(length: int, *lines: str) -> bytes:
    first = (f"POST {UPLOAD} HTTP/1.1", f"Host: {NAME}", f"Content-Length: {length}", *lines)
    return "\r\n".join([*first, "", ""]).encode()


def test_an_upload_reaches_the_service_while_it_comes(site: Site) -> None:
    half = len(KEPT) // 2
    with site.connect() as tls:
        tls.sendall(head(len(KEPT), "Authorization: Bearer x") + KEPT[:half])
        deadline = time.monotonic() + 5
        while getattr(Service, "received", 0) < half:
            assert time.monotonic() < deadline, "Nginx keeps it back"
            time.sleep(0.02)
        tls.sendall(KEPT[half:])
        assert b" 201 " in tls.recv(4096).splitlines()[0]
    assert Service.received == len(KEPT)
    assert [path for path in site.folder.rglob("*") if path.suffix.isdigit()] == []


def test_a_stranger_is_refused_before_the_body(site: Site) -> None:
    with site.connect() as tls:
        tls.sendall(head(2**30))
        assert b" 401 " in tls.recv(4096).splitlines()[0]
    # Also one who does not wait for the answer.
    with site.connect() as tls:
        tls.sendall(head(2**24))
        try:
            for _ in range(256):
                tls.sendall(bytes(65536))
        except OSError:
            pass
        else:
            assert b" 401 " in tls.recv(4096).splitlines()[0]
    assert Service.received == 0


def test_more_than_the_service_takes_is_refused_at_once(site: Site) -> None:
    with site.connect() as tls:
        tls.sendall(head(10 * (2**30 + 2**14) + 1, "Authorization: Bearer x"))
        answer = tls.recv(4096)
    assert b" 413 " in answer.splitlines()[0]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "payload_too_large"
