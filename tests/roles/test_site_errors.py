"""What a real Nginx says to requests that it does not understand: the shape of all errors."""

import json
import socket
import ssl

import pytest

from tests.roles.nginx_site import NAME, Site

# More than a field may have. In one record of TLS: of several Nginx leaves some unread, so that the
# connection is reset and the answer may be lost.
LONG = 12_000


def told(site: Site, request: bytes) -> tuple[int, dict[str, str], dict[str, dict[str, str]]]:
    """The status, the fields and the body of the answer to bytes that are sent as they are."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    received = b""
    with (
        socket.create_connection(("127.0.0.1", site.tls), 10) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as tls,
    ):
        tls.sendall(request)
        while part := tls.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), fields, json.loads(body)


@pytest.mark.parametrize(
    ("line", "more", "status", "code"),
    [
        ("GET /page", "Content-Length: x", 400, "bad_request"),
        ("GET /page", f"X-Name: {'a' * LONG}", 400, "bad_request"),
        ("get /page", "", 400, "bad_request"),
        ("TRACE /page", "", 405, "method_not_allowed"),
        (f"GET /{'a' * LONG}", "", 414, "uri_too_long"),
        ("POST /page", "Transfer-Encoding: gzip", 501, "not_implemented"),
    ],
    ids=["a length", "a field", "no method", "a method", "an address", "an encoding"],
)
def test_what_nginx_does_not_understand_is_told_in_the_shape_of_all_errors(
    site: Site, line: str, more: str, status: int, code: str
) -> None:
    fields = f"Host: {NAME}\r\nConnection: close\r\n{more}\r\n".encode()
    answer = told(site, f"{line} HTTP/1.1\r\n".encode() + fields + (b"\r\n" if more else b""))
    assert answer[0] == status
    assert answer[1]["content-type"] == "application/json"
    assert answer[1]["cache-control"] == "no-store"
    assert answer[2]["error"]["code"] == code
    assert len(answer[2]["error"]["request_id"]) == 32
    assert answer[1]["x-request-id"] == answer[2]["error"]["request_id"]
    method, _, address = line.partition(" ")
    logged = site.logged(answer[1]["x-request-id"])
    assert (logged["method"], logged["status"]) == (method, status)
    # Of an address that is too long only the beginning is of use.
    assert logged["path"] == address[:1001]
