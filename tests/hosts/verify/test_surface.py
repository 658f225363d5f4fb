"""What the host shows to the outside, and what it does not."""

import asyncio
import contextlib
import socket
import ssl

import httpx
import pytest

from tests.hosts.machine import Machine

OPEN = {22, 80, 443}
#: Ports on which the software of the host, or software like it, would listen.
LIKELY = {21, 23, 25, 53, 111, 123, 139, 445, 631, 2375, 3306, 5353, 5355, 5432, 6379, 6380, 8000}
LIKELY |= {8001, 8080, 8081, 8443, 8888, 9000, 9090, 9100, 9187, 10050, 11211, 27017, *range(1, 21)}


async def _answers(address: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 1.0)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


@pytest.mark.parametrize("family", ["address", "address6"])
async def test_only_ssh_and_web_answer(machine: Machine, family: str) -> None:
    listening = {
        int(line.split()[3].rsplit(":", 1)[1])
        for line in machine.run("ss -Hltn").stdout.splitlines()
    }
    ports = sorted(OPEN | LIKELY | listening)
    address = getattr(machine, family)
    answers = await asyncio.gather(*(_answers(address, port) for port in ports))
    assert {port for port, answered in zip(ports, answers, strict=True) if answered} == OPEN


def test_a_listener_on_every_address_is_not_reached(machine: Machine) -> None:
    with machine.background("python3 -m http.server 9999 --bind ::"):
        machine.wait_for("ss -Hltn sport = :9999 | grep -q 9999")
        for address in (machine.address, machine.address6):
            with pytest.raises(OSError, match=r"timed out|refused|unreachable"):
                socket.create_connection((address, 9999), timeout=1).close()


def test_the_certificate_verifies_against_the_lab_ca_alone(machine: Machine) -> None:
    with (
        socket.create_connection((machine.address, 443), timeout=5) as plain,
        machine.context.wrap_socket(plain, server_hostname=machine.site) as tls,
    ):
        assert tls.version() == "TLSv1.3"
        certificate = tls.getpeercert()
    assert certificate is not None
    assert ("DNS", machine.site) in certificate["subjectAltName"]
    with (
        socket.create_connection((machine.address, 443), timeout=5) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(plain, server_hostname=machine.site)


def test_old_protocols_are_refused(machine: Machine) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection((machine.address, 443), timeout=5) as plain,
        pytest.raises((ssl.SSLError, ConnectionResetError)),
    ):
        context.wrap_socket(plain, server_hostname=machine.site)


def test_http2_is_offered(machine: Machine) -> None:
    context = ssl.create_default_context(cafile=str(machine.ca))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((machine.address, 443), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=machine.site) as tls,
    ):
        assert tls.selected_alpn_protocol() == "h2"


def test_unknown_names_get_no_answer(machine: Machine) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{machine.address}/", headers={"Host": "unknown.example"})
    with (
        socket.create_connection((machine.address, 443), timeout=5) as plain,
        pytest.raises((ssl.SSLError, ConnectionResetError)),
    ):
        machine.context.wrap_socket(plain, server_hostname="unknown.example")


def test_browsers_are_redirected_and_plain_api_calls_are_refused(machine: Machine) -> None:
    page = httpx.get(f"http://{machine.site}/somewhere?a=b")
    assert page.status_code == 301
    assert page.headers["location"] == f"https://{machine.site}/somewhere?a=b"
    token = httpx.get(
        f"http://{machine.site}/api/v1/users/me", headers={"Authorization": "Bearer secret"}
    )
    assert token.status_code in {403, 426}
    assert "location" not in token.headers


def test_security_headers_are_set_once(client: httpx.Client) -> None:
    headers = client.get("/health").headers
    assert headers.get_list("strict-transport-security") == [headers["strict-transport-security"]]
    assert "max-age=63072000" in headers["strict-transport-security"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-frame-options"]
    assert headers["referrer-policy"]
    assert headers["permissions-policy"]
    assert "nginx/" not in headers.get("server", "")


@pytest.mark.parametrize("path", ["/metrics", "/docs", "/redoc", "/openapi.json", "/health/ready"])
def test_inner_paths_are_closed(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


def test_floods_are_bounded_with_the_error_shape(machine: Machine, client: httpx.Client) -> None:
    answers = [
        client.post("/api/v1/auth/token", data={"username": "nobody", "password": "Wrong-1234"})
        for _ in range(12)
    ]
    limited = [answer for answer in answers if answer.status_code == 429]
    assert limited
    assert answers[0].status_code == 401
    for answer in limited:
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
