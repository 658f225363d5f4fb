"""Let's Encrypt's test authority (Pebble) on the bridge, with the name server it asks.

Pebble's own interface has a certificate of a throw-away authority that the hosts trust. Pebble
makes a new root at each start, which is fetched from its management port.
"""

import json
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

from deploy.lab import processes
from deploy.lab.controller import run
from deploy.lab.errors import LabError
from deploy.lab.settings import Lab

_ACME, _MANAGEMENT, _NAMES, _NAMES_MANAGEMENT = 14000, 15000, 8053, 8055
_PATIENCE = 15.0


def directory(lab: Lab) -> str:
    """Address of the ACME directory (RFC 8555, section 7.1.1)."""
    return f"https://acme.{lab.domain}:{_ACME}/dir"


def bundle(lab: Lab) -> Path:
    """File with the roots that the certificates of the lab's sites end in."""
    return lab.authority / "ca.pem"


def trusted(lab: Lab) -> list[Path]:
    """Return the authorities that a host of the lab must trust."""
    return [lab.authority / "interface-ca.pem", bundle(lab)]


def up(lab: Lab) -> None:
    """Start the authority and its name server, and fetch its root.

    Raises:
        LabError: It did not answer in time.
    """
    folder = lab.authority
    folder.mkdir(parents=True, exist_ok=True)
    _make_interface_certificate(lab)
    if processes.running(folder / "names.pid") is None:
        command = [
            *("pebble-challtestsrv", "-dns01", f"{lab.gateway}:{_NAMES}"),
            *("-management", f"{lab.gateway}:{_NAMES_MANAGEMENT}"),
            *("-http01", "", "-https01", "", "-tlsalpn01", ""),
            *("-defaultIPv4", lab.address(lab.hosts[0].number), "-defaultIPv6", ""),
        ]
        processes.start(folder / "names.pid", command, folder / "names.log")
    fresh = processes.running(folder / "pebble.pid") is None
    if fresh:
        settings = folder / "pebble.json"
        settings.write_text(json.dumps({"pebble": _settings(lab)}, indent=1))
        processes.start(
            folder / "pebble.pid",
            ["pebble", "-config", str(settings), "-dnsserver", f"{lab.gateway}:{_NAMES}"],
            folder / "pebble.log",
            # By itself it refuses one good nonce of twenty. Certbot asks a second time and no
            # third, so that one certificate of fifty or so would not be had.
            {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"},
        )
    if fresh or not bundle(lab).exists():
        _fetch_root(lab)
    _announce(lab)


def down(lab: Lab) -> None:
    """End both programs."""
    for name in ("pebble", "names"):
        processes.stop(lab.authority / f"{name}.pid")


def _settings(lab: Lab) -> dict[str, object]:
    return {
        "listenAddress": f"{lab.gateway}:{_ACME}",
        "managementListenAddress": f"{lab.gateway}:{_MANAGEMENT}",
        "certificate": str(lab.authority / "interface.pem"),
        "privateKey": str(lab.authority / "interface.key"),
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }


def _make_interface_certificate(lab: Lab) -> None:
    folder = lab.authority
    if (folder / "interface.pem").exists():
        return
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650")
    run(
        *("openssl", "req", "-x509", *key, "-subj", f"/CN=Lab {lab.name} interface"),
        *("-keyout", str(folder / "interface-ca.key"), "-out", str(folder / "interface-ca.pem")),
        *("-addext", "keyUsage=critical,keyCertSign"),
    )
    run(
        *("openssl", "req", "-x509", *key, "-subj", f"/CN=acme.{lab.domain}"),
        *("-CA", str(folder / "interface-ca.pem"), "-CAkey", str(folder / "interface-ca.key")),
        *("-keyout", str(folder / "interface.key"), "-out", str(folder / "interface.new")),
        *("-addext", f"subjectAltName=DNS:acme.{lab.domain},IP:{lab.gateway}"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
    )
    (folder / "interface-ca.key").unlink()
    (folder / "interface.new").replace(folder / "interface.pem")


def _fetch_root(lab: Lab) -> None:
    context = ssl.create_default_context(cafile=str(lab.authority / "interface-ca.pem"))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with opener.open(f"https://{lab.gateway}:{_MANAGEMENT}/roots/0", timeout=2) as answer:
                root = answer.read()
                # Certificates of an earlier start are still in use on hosts that kept running.
                old = bundle(lab).read_bytes() if bundle(lab).exists() else b""
                _write_new(bundle(lab), old if root in old else root + old)
                return
        except (OSError, urllib.error.URLError) as error:
            if time.monotonic() > deadline:
                log = lab.authority / "pebble.log"
                raise LabError(f"The test authority did not start ({error}): see {log}.") from error
            time.sleep(0.05)


def _announce(lab: Lab) -> None:
    """Tell the authority's name server where each host is; other names are the first host's."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for host in lab.hosts:
        record = {
            "host": f"{host.name}.{lab.domain}.",
            "addresses": [lab.address(host.number)],
        }
        url = f"http://{lab.gateway}:{_NAMES_MANAGEMENT}/add-a"
        opener.open(url, data=json.dumps(record).encode(), timeout=5).close()


def _write_new(path: Path, contents: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(contents)
    temporary.replace(path)
