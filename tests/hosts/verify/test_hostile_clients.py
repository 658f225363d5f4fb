"""What clients do to break a host: it is refused and written down, and everybody else is served."""

import secrets
import socket
import ssl
import time
from contextlib import ExitStack

import httpx
import pytest

from tests.hosts.machine import Machine

#: How long Nginx waits for the head of a request, with room for a busy machine.
HEAD_SECONDS = 10.0
SLOW_CLIENTS = 60


def connected(machine: Machine) -> ssl.SSLSocket:
    plain = socket.create_connection((machine.address, 443), timeout=30)
    return machine.context.wrap_socket(plain, server_hostname=machine.site)


def answer_to(machine: Machine, request: bytes) -> bytes:
    """Everything that comes back for bytes that are sent as they are; nothing when it is cut."""
    received = b""
    with connected(machine) as tls:
        tls.settimeout(2)
        try:
            tls.sendall(request)
            while part := tls.recv(65536):
                received += part
        except (TimeoutError, ConnectionError, ssl.SSLError):
            pass
    return received


def status_of(answer: bytes) -> bytes:
    return answer.split(b" ", 2)[1] if answer else b""


def head(machine: Machine, *lines: str, method: str = "POST") -> bytes:
    first = (f"{method} /api/v1/items HTTP/1.1", f"Host: {machine.site}", *lines)
    return "\r\n".join([*first, "", ""]).encode()


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
DISGUISES = {
    "both lengths": (("Content-Length: 4", "Transfer-Encoding: chunked"), b"0\r\n\r\n" + SMUGGLED),
    "two lengths": (("Content-Length: 0", "Content-Length: 35"), SMUGGLED),
    "a length with a sign": (("Content-Length: +0",), SMUGGLED),
    "an odd encoding": (("Transfer-Encoding: chunked, identity",), b"0\r\n\r\n" + SMUGGLED),
    "a hidden encoding": (("Transfer-Encoding : chunked",), b"0\r\n\r\n" + SMUGGLED),
    "a bad chunk": (("Transfer-Encoding: chunked",), b"zz\r\n" + SMUGGLED),
    "a NUL": (("X-Name: a\0b",), b""),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_request_is_not_smuggled_in_another(
    machine: Machine, client: httpx.Client, disguise: str
) -> None:
    lines, body = DISGUISES[disguise]
    answer = answer_to(machine, head(machine, *lines) + body)
    statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses, "closed without a word"
    assert set(statuses) <= {b"400", b"401", b"501"}, answer
    assert b"# HELP" not in answer
    # A request that was let through is one, whatever it hid.
    assert statuses == [b"401"] or b"401" not in statuses
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../../etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/.well-known/acme-challenge/../../../../etc/passwd",
        "/.well-known/acme-challenge/..%2f..%2f..%2fetc/passwd",
        "/api/v1/../../metrics",
        "//metrics",
        "/%6detrics",
    ],
)
def test_no_path_leads_out(machine: Machine, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: {machine.site}\r\nConnection: close\r\n\r\n"
    answer = answer_to(machine, request.encode())
    assert answer.split(b" ", 2)[1] in {b"400", b"404"}, answer
    assert b"root:" not in answer
    assert b"# HELP" not in answer


def test_too_much_is_refused_before_it_is_read(machine: Machine, client: httpx.Client) -> None:
    body = answer_to(machine, head(machine, f"Content-Length: {10**11}"))
    assert b" 413 " in body.splitlines()[0]
    assert b'"error"' in body
    # Nginx may cut the connection while the client still sends, and the answer is lost with it.
    fields = answer_to(machine, head(machine, "X-Name: " + "a" * 70_000, method="GET"))
    assert status_of(fields) in {b"400", b"431", b""}
    line = f"GET /{'a' * 70_000} HTTP/1.1\r\nHost: {machine.site}\r\n\r\n"
    assert status_of(answer_to(machine, line.encode())) in {b"400", b"414", b""}
    assert client.get("/health").status_code == 200


def test_slow_clients_are_sent_away_while_others_are_served(
    machine: Machine, client: httpx.Client
) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(machine)) for _ in range(SLOW_CLIENTS)]
        for tls in slow:
            tls.sendall(f"GET /health HTTP/1.1\r\nHost: {machine.site}\r\nX-".encode())
        began = time.monotonic()
        for _ in range(20):
            assert client.get("/health").status_code == 200
        assert time.monotonic() - began < HEAD_SECONDS / 2
        # Each goes on to send, which does not give it more time.
        for tls in slow:
            tls.sendall(b"a")
        ends = [end_of(tls) for tls in slow]
        assert time.monotonic() - began < HEAD_SECONDS * 2
    assert all(not end or b" 408 " in end or b" 400 " in end for end in ends)


def end_of(tls: ssl.SSLSocket) -> bytes:
    """What a connection gets last; nothing when it is cut."""
    try:
        return tls.recv(4096)
    except ConnectionError:
        return b""


def test_what_was_refused_is_in_the_journal(machine: Machine) -> None:
    probe = f"/probe-{secrets.token_hex(6)}"
    request = f"GET {probe} HTTP/1.1\r\nHost: {machine.site}\r\nContent-Length: x\r\n\r\n"
    assert b" 400 " in answer_to(machine, request.encode()).splitlines()[0]
    machine.wait_for(f"journalctl -t nginx --since -1min | grep -q {probe}")
