"""A host that was away learns from its peers, over TLS, what the fleet serves, and follows."""

import contextlib
import dataclasses
import functools
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slipway_release import probe
from tests.release.world import World

ADDRESS = "127.0.0.1"
NAME = "quay.fleet"


class Peer:
    """Another host of the fleet: its Nginx shows a folder over TLS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".slipway").mkdir(parents=True)
        self.certificate = folder / "peer.pem"
        _certify(self.certificate, folder / "peer.key")
        handler = functools.partial(_Quiet, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer((ADDRESS, 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, folder / "peer.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def serve(self, serial: int, version: str, sha256: str, artifact: bytes) -> None:
        record = {"serial": serial, "version": version, "sha256": sha256}
        (self.folder / ".slipway/fleet.json").write_text(json.dumps(record))
        (self.folder / f".slipway/quay-{version}.tar").write_bytes(artifact)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args


def _certify(certificate: Path, key: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer")])
    now = datetime.now(UTC)
    known_as = x509.DNSName(NAME)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([known_as]), critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    made = Peer(tmp_path / "peer")
    with contextlib.closing(made):
        yield made


@pytest.fixture
def member(world: World, peer: Peer) -> World:
    """A host that serves v1.0.0 and knows its peer."""
    folder = world.folder / "etc/fleet"
    folder.mkdir()
    values = {"peers": [ADDRESS], "port": peer.server.server_port, "name": NAME}
    (folder / "quay.json").write_text(json.dumps(values))
    (folder / "quay.pem").write_bytes(peer.certificate.read_bytes())
    return world


def offer(world: World, peer: Peer, version: str, serial: int, **behaviour: object) -> None:
    """Let the peer serve a version that this host has never seen."""
    sha256 = world.add(version, **behaviour)
    path = world.settings.artifact(version)
    peer.serve(serial, version, sha256, path.read_bytes())
    path.unlink()


def results(world: World) -> list[tuple[str, str, str, str]]:
    entries = json.loads(world.run("history", "--json").text)
    return [(e["verb"], e["version"], e["result"], e["who"]) for e in entries]


def test_a_host_that_is_alone_has_nothing_to_do(world: World) -> None:
    outcome = world.run("catch-up")
    assert (outcome.status, outcome.text) == (0, "")
    assert world.live() == "v1.0.0"


def test_what_the_fleet_released_meanwhile_is_released(member: World, peer: Peer) -> None:
    offer(member, peer, "v1.1.0", 7)
    outcome = member.run("catch-up")
    assert outcome.status == 0, outcome.text
    assert "the fleet serves v1.1.0 (serial 7)" in outcome.text
    assert member.live() == "v1.1.0"
    assert results(member)[-1] == ("release", "v1.1.0", "good", "catch-up")
    again = member.run("catch-up")
    assert (again.status, again.text) == (0, "")
    assert len(results(member)) == 2


def test_a_fleet_that_went_back_takes_the_host_with_it(member: World, peer: Peer) -> None:
    assert member.run("fleet-mark", "v1.0.0", "--serial=3").status == 0
    assert member.release("v1.1.0").status == 0
    offer(member, peer, "v1.0.0", 9)
    outcome = member.run("catch-up")
    assert outcome.status == 0, outcome.text
    assert member.live() == "v1.0.0"
    assert results(member)[-1][0] == "rollback"


@pytest.mark.parametrize("serial", [3, 4])
def test_an_older_record_changes_nothing(member: World, peer: Peer, serial: int) -> None:
    assert member.run("fleet-mark", "v1.0.0", "--serial=4").status == 0
    offer(member, peer, "v1.1.0", serial)
    assert member.run("catch-up").status == 0
    assert member.live() == "v1.0.0"


def test_an_artifact_that_is_not_the_one_of_the_record_is_refused(
    member: World, peer: Peer
) -> None:
    offer(member, peer, "v1.1.0", 7)
    path = peer.folder / ".slipway/quay-v1.1.0.tar"
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    outcome = member.run("catch-up")
    assert outcome.status != 0
    assert "has not the checksum of the record" in outcome.text
    assert member.live() == "v1.0.0"
    assert list(member.settings.artifact("v1.1.0").parent.glob("*v1.1.0*")) == []


@pytest.mark.parametrize(("name", "status"), [(NAME, 404), ("", 0)])
def test_what_is_live_is_asked_for_by_the_public_name_and_verified_by_that_of_the_fleet(
    member: World, peer: Peer, name: str, status: int
) -> None:
    settings = dataclasses.replace(
        member.settings,
        smoke_url=f"https://quay.example:{peer.server.server_port}/health",
        smoke_certificates=str(peer.certificate),
        smoke_certificate_name=name,
    )
    answer = probe.from_outside(settings, 5.0)
    assert answer.status == status, answer
    assert ("certificate verify failed" in answer.reason) is (not name)


def test_a_peer_with_another_name_is_not_believed(member: World, peer: Peer) -> None:
    offer(member, peer, "v1.1.0", 7)
    path = member.folder / "etc/fleet/quay.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": "other.fleet"}))
    outcome = member.run("catch-up")
    assert (outcome.status, outcome.text) == (0, "")
    assert member.live() == "v1.0.0"


def test_a_peer_with_another_certificate_is_not_believed(
    member: World, peer: Peer, tmp_path: Path
) -> None:
    offer(member, peer, "v1.1.0", 7)
    _certify(member.folder / "etc/fleet/quay.pem", tmp_path / "other.key")
    outcome = member.run("catch-up")
    assert (outcome.status, outcome.text) == (0, "")
    assert member.live() == "v1.0.0"


def test_what_fails_here_is_not_tried_every_few_seconds(member: World, peer: Peer) -> None:
    offer(member, peer, "v1.1.0", 7, crash="No module named sails")
    first = member.run("catch-up")
    assert first.status != 0
    assert "could not catch up with v1.1.0" in first.text
    assert member.live() == "v1.0.0"
    second = member.run("catch-up")
    assert (second.status, second.text) == (0, "")
    assert len([entry for entry in results(member) if entry[1] == "v1.1.0"]) == 1


def test_the_artifact_stays_for_those_who_missed_it(member: World) -> None:
    assert member.release("v1.1.0").status == 0
    assert member.run("fleet-mark", "v1.1.0", "--serial=5").status == 0
    folder = member.settings.state / "fleet"
    record = json.loads((folder / "fleet.json").read_text())
    assert record["serial"] == 5
    assert record["version"] == "v1.1.0"
    assert (folder / "quay-v1.1.0.tar").is_file()
    assert len(record["sha256"]) == 64
    for version, serial in (("v1.0.0", 5), ("v1.1.0", 4)):
        refused = member.run("fleet-mark", version, f"--serial={serial}")
        assert refused.status == 2
        assert "serial 5" in refused.text


def test_a_peer_may_be_quicker_than_the_note_that_is_on_its_way(member: World, peer: Peer) -> None:
    offer(member, peer, "v1.1.0", 7)
    assert member.run("catch-up").status == 0
    record = (member.settings.state / "fleet/fleet.json").read_text()
    noted = member.run("fleet-mark", "v1.1.0", "--serial=7")
    assert (noted.status, "as is known here" in noted.text) == (0, True)
    assert (member.settings.state / "fleet/fleet.json").read_text() == record
