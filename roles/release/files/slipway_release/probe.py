"""Questions to the service over HTTP: on its own socket, and from outside through Nginx."""

from __future__ import annotations

import dataclasses
import functools
import http.client
import json
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from slipway_release.settings import Settings

# A health answer is a few hundred bytes; more than this is not read.
_LONGEST_BODY = 64_000


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back: a status and a body, or the reason why nothing did (status 0)."""

    status: int
    body: bytes
    reason: str = ""

    def member(self, key: str) -> str | None:
        """Return a member of the JSON body as text, None when there is none."""
        try:
            value = json.loads(self.body)[key]
        except (ValueError, LookupError, TypeError):
            return None
        return str(value)

    def __str__(self) -> str:
        if not self.status:
            return self.reason
        text = " ".join(self.body.decode(errors="replace").split())
        return f"status {self.status}: {text[:300]}" if text else f"status {self.status}"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _TlsConnection(http.client.HTTPSConnection):
    """HTTPS to one address, whatever the name resolves to; the certificate is for `verified`."""

    def __init__(
        self, verified: str, port: int, address: str, certificates: str, timeout: float
    ) -> None:
        self._context = _context(certificates)
        super().__init__(verified, port, timeout=timeout, context=self._context)
        self._address = address

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), timeout=self.timeout)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)


@functools.lru_cache(maxsize=1)
def _context(certificates: str) -> ssl.SSLContext:
    # Reading the system's authorities takes longer than the question itself.
    return ssl.create_default_context(cafile=certificates or None)


def on_socket(settings: Settings, version: str, path: str, timeout: float) -> Answer:
    """Ask a release on its own socket, as Nginx would."""
    connection = _UnixConnection(settings.sockets / f"{version}.sock", timeout)
    headers = {"Host": settings.smoke_host, "X-Forwarded-Proto": "https"}
    return _ask(connection, path, headers)


def from_outside(settings: Settings, timeout: float) -> Answer:
    """Ask whatever is live as a client would: by name, through Nginx, with TLS verified."""
    url = urlsplit(settings.smoke_url)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        connection = _TlsConnection(
            settings.smoke_certificate_name or settings.smoke_host,
            url.port or 443,
            settings.smoke_address,
            settings.smoke_certificates,
            timeout,
        )
    else:
        connection = http.client.HTTPConnection(
            settings.smoke_address, url.port or 80, timeout=timeout
        )
    return _ask(connection, path, {"Host": url.netloc})


def _ask(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> Answer:
    try:
        connection.request("GET", path, headers={**headers, "Connection": "close"})
        response = connection.getresponse()
        return Answer(response.status, response.read(_LONGEST_BODY))
    except TimeoutError:
        return Answer(0, b"", "no answer in time")
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, b"", f"{type(error).__name__}: {error}")
    finally:
        connection.close()
