"""The alarm about certificates, against real TLS servers whose certificates have any age."""

import datetime as dt
import ipaddress
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "roles/tls/files/slipway_certificate.py"


def make(folder: Path, old: float, left: float) -> Path:
    """A certificate of an age and with days left, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "quay.test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=old))
        .not_valid_after(now + dt.timedelta(days=left))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{old}-{left}.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@contextmanager
def serving(certificate: Path) -> Iterator[int]:
    """A TLS server with a certificate; answers its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with context.wrap_socket(self.request, server_side=True) as tls:
                tls.recv(1)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def look(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(PROGRAM), f"--port={port}", *options, "quay.test"],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("old", "left", "status", "said"),
    [
        (1, 89, 0, "<6>quay.test: 89 of 90 days of its certificate are left."),
        (60, 30, 0, "<6>quay.test: 30 of 90 days"),
        (66, 24, 1, "<3>quay.test: 24 of 90 days of its certificate are left: it was not renewed"),
        (30, 15, 0, "<6>quay.test: 15 of 45 days"),
        (91, -1, 1, "it has expired"),
    ],
)
def test_the_alarm_is_raised_below_its_share(
    tmp_path: Path, old: float, left: float, status: int, said: str
) -> None:
    metrics = tmp_path / "quay.prom"
    with serving(make(tmp_path, old, left)) as port:
        answer = look(port, f"--metrics={metrics}")
    assert answer.returncode == status, answer.stderr
    assert said in answer.stdout + answer.stderr
    values = {
        line.partition("{")[0]: float(line.rsplit(" ", 1)[1])
        for line in metrics.read_text().splitlines()
        if not line.startswith("#")
    }
    assert values["slipway_certificate_left_ratio"] == pytest.approx(left / (old + left), abs=1e-3)
    now = dt.datetime.now(dt.UTC).timestamp()
    assert values["slipway_certificate_not_after_seconds"] == pytest.approx(
        now + left * 86400, abs=60
    )


def test_a_site_that_serves_no_certificate_raises_it_too(tmp_path: Path) -> None:
    with serving(make(tmp_path, 1, 89)) as port:
        pass
    answer = look(port)
    assert answer.returncode == 1
    assert "<3>quay.test: no certificate is served" in answer.stderr
