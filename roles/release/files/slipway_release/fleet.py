"""What a fleet serves: a record that each of its hosts keeps, and reads from the others.

The controller writes the record on every host that it reaches when a release or a rollback of the
whole fleet is through. Its serial number says which of two records is the newer one; no clock does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import shutil
import ssl
from pathlib import Path

from slipway_release import durable
from slipway_release.errors import FailedError, RefusedError
from slipway_release.settings import Settings
from slipway_release.unpack import checksum
from slipway_release.version import precedence

# Where the Nginx of a host shows the folder of the fleet to its peers, and to nobody else.
_PATH = "/.slipway"
_ANSWER_SECONDS = 5.0
_LONGEST_RECORD = 4096
_OK = 200


@dataclasses.dataclass(frozen=True)
class Record:
    """What the fleet serves.

    Attributes:
        serial: Grows with each record; 0 before the first.
        version: The version.
        sha256: Checksum of its artifact; '' when no host has it any more.
    """

    serial: int = 0
    version: str = ""
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Peers:
    """The other hosts of the fleet, as the role `fleet` wrote them.

    Attributes:
        addresses: Where they are.
        port: Of their Nginx.
        certificates: File with the certificates that they are known by.
        name: What these certificates are for.
    """

    addresses: tuple[str, ...]
    port: int
    certificates: Path
    name: str


def folder(settings: Settings) -> Path:
    """Return the folder that the peers may read."""
    return settings.state / "fleet"


def record(settings: Settings) -> Record:
    """Return the record of this host."""
    with contextlib.suppress(FileNotFoundError):
        return _parse((folder(settings) / "fleet.json").read_bytes())
    return Record()


def mark(settings: Settings, version: str, serial: int) -> str:
    """Note that the fleet serves a version, and keep its artifact for a host that missed it.

    Raises:
        RefusedError: It is no version, or the record here is as new as that and another one.
    """
    precedence(version)
    known = record(settings)
    if (known.serial, known.version) == (serial, version):
        # A peer that was told first has passed it on.
        return f"{settings.app}: the fleet serves {version} (serial {serial}), as is known here"
    if serial <= known.serial:
        raise RefusedError(
            f"The record of the fleet here has serial {known.serial}, so {serial} is not newer."
        )
    place = folder(settings)
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    kept = place / f"{settings.app}-{version}.tar"
    incoming = settings.artifact(version)
    if incoming.is_file():
        temporary = kept.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        # A second name for the same blocks: it takes no room until the first is pruned.
        os.link(incoming, temporary)
        temporary.replace(kept)
    sha256 = checksum(kept) if kept.is_file() else ""
    text = json.dumps(dataclasses.asdict(Record(serial, version, sha256)))
    durable.write(place / "fleet.json", f"{text}\n")
    _forget_artifacts(settings, {version, known.version})
    return f"{settings.app}: the fleet serves {version} (serial {serial})"


def _forget_artifacts(settings: Settings, versions: set[str]) -> None:
    kept = {f"{settings.app}-{version}.tar" for version in versions}
    for path in folder(settings).glob(f"{settings.app}-*.tar"):
        if path.name not in kept:
            durable.remove(path)


def load(settings: Settings, directory: Path) -> Peers | None:
    """Return the peers of this host; None when it is alone."""
    try:
        values = json.loads((directory / "fleet" / f"{settings.app}.json").read_text())
    except FileNotFoundError:
        return None
    certificates = directory / "fleet" / f"{settings.app}.pem"
    # An older role `fleet` wrote no name: its certificates are for the one of the site.
    name = values.get("name", settings.smoke_host)
    return Peers(tuple(values["peers"]), int(values["port"]), certificates, name)


def newest(settings: Settings, peers: Peers) -> tuple[str, Record]:
    """Return the newest record among the peers, and whose it is; serial 0 when none answers."""
    found = ("", Record())
    for address in peers.addresses:
        connection = _connection(peers, address)
        try:
            connection.request("GET", f"{_PATH}/fleet.json", headers=_headers(settings))
            response = connection.getresponse()
            body = response.read(_LONGEST_RECORD)
            if response.status == _OK and (answer := _parse(body)).serial > found[1].serial:
                found = (address, answer)
        except (OSError, http.client.HTTPException, ValueError, TypeError):
            # A peer that is down says nothing; the others do.
            continue
        finally:
            connection.close()
    return found


def fetch(settings: Settings, peers: Peers, address: str, wanted: Record) -> None:
    """Bring the artifact of a record from a peer to where the controller would put it.

    Raises:
        FailedError: The peer does not give it, or gives another one.
    """
    name = f"{settings.app}-{wanted.version}.tar"
    target = settings.artifact(wanted.version)
    temporary = target.with_suffix(".new")
    connection = _connection(peers, address)
    try:
        connection.request("GET", f"{_PATH}/{name}", headers=_headers(settings))
        response = connection.getresponse()
        if response.status != _OK:
            raise FailedError(f"{address} does not give {name}: status {response.status}.")
        with temporary.open("wb") as stream:
            shutil.copyfileobj(response, stream)
        if checksum(temporary) != wanted.sha256:
            raise FailedError(f"{address} gave a {name} that has not the checksum of the record.")
        temporary.chmod(0o644)
        temporary.replace(target)
    except (OSError, http.client.HTTPException) as error:
        raise FailedError(f"{name} could not be brought from {address}: {error}") from error
    finally:
        connection.close()
        temporary.unlink(missing_ok=True)


class _Connection(http.client.HTTPSConnection):
    """HTTPS to an address, whose certificate is for a name."""

    def __init__(self, address: str, port: int, name: str, context: ssl.SSLContext) -> None:
        super().__init__(address, port, timeout=_ANSWER_SECONDS, context=context)
        self._name = name
        self._trust = context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._trust.wrap_socket(self.sock, server_hostname=self._name)


def _connection(peers: Peers, address: str) -> _Connection:
    # Only the hosts of the fleet are believed, not every authority of the system.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(peers.certificates)
    return _Connection(address, peers.port, peers.name, context)


def _headers(settings: Settings) -> dict[str, str]:
    return {"Host": settings.smoke_host, "Connection": "close"}


def _parse(text: bytes) -> Record:
    values = json.loads(text)
    found = Record(int(values["serial"]), str(values["version"]), str(values["sha256"]))
    precedence(found.version)
    return found
