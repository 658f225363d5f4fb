"""Whom Nginx counts as one client."""

import random
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from app.accounts import client_network
from tests.processes import free_port
from tests.roles.nginx_site import program, wait_for

CONFIGURATION = """
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    {map}
    server {{
        listen 127.0.0.1:{port};
        set_real_ip_from 127.0.0.1;
        real_ip_header X-Client;
        return 200 $client_quay;
    }}
}}
"""


@pytest.fixture(scope="module")
def key_of(
    rendered: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], bytes]]:
    """Asks an Nginx with the site's map for the key of an address."""
    folder, port = tmp_path_factory.mktemp("networks"), free_port()
    site = (rendered["debian-12"] / "site.conf").read_text()
    found = re.search(r"^map \$remote_addr \$client_quay \{.*?^\}$", site, re.DOTALL | re.MULTILINE)
    assert found
    assert all("$binary_remote_addr" not in line for line in site.split(found[0]))
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, map=found[0], port=port))
    with subprocess.Popen([program(), "-c", str(file), "-g", "daemon off;"]) as process:
        try:
            wait_for(port)
            connection = HTTPConnection("127.0.0.1", port, timeout=10)

            def ask(address: str) -> bytes:
                connection.request("GET", "/", headers={"X-Client": address})
                return connection.getresponse().read()

            yield ask
            connection.close()
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("2001:db8::1", "2001:db8::1:2:3:4"),
        ("2001:0:0:a:b:c:d:e", "2001:0:0:a:f:c:d:e"),
        ("2001:db8:1:2::", "2001:db8:1:2:3::"),
    ],
)
def test_a_network_is_one_client(key_of: Callable[[str], bytes], one: str, other: str) -> None:
    assert client_network(one) == client_network(other)
    assert key_of(one) == key_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.1", "192.0.2.2"),
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("2001:db8::1", "2001:db8:0:1::1"),
        ("2001:db8:1::1", "2001:db8:1:1::1"),
        ("2001:0:0:a:b:c:d:e", "2001:0:0:b:b:c:d:e"),
    ],
)
def test_other_networks_are_others(key_of: Callable[[str], bytes], one: str, other: str) -> None:
    assert client_network(one) != client_network(other)
    assert key_of(one) != key_of(other)


def test_no_two_networks_share_a_key_and_a_network_has_few(key_of: Callable[[str], bytes]) -> None:
    chance = random.Random(7)
    networks: dict[str, set[bytes]] = defaultdict(set)
    for _ in range(3000):
        first = [chance.choice((0x2001, 0x2A00)), *(chance.choice((0, 0, 1)) for _ in range(3))]
        rest = [chance.choice((0, 0, 7, 0xFFFF)) for _ in range(4)]
        number = int.from_bytes(b"".join(group.to_bytes(2) for group in (*first, *rest)))
        address = str(IPv6Address(number))
        networks[client_network(address)].add(key_of(address))
    keys = [key for found in networks.values() for key in found]
    assert len(keys) == len(set(keys))
    # One that has zeros among its first groups is written in as many ways as its end has zeros.
    assert max(len(found) for found in networks.values()) <= 3
