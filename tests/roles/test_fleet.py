"""The wiring of several hosts: who opens what for whom, and how a host is taken out."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from roles.balancer.files import slipway_balancer
from tests.roles.conftest import SETTINGS
from tests.roles.rendering import ROOT, facts, render

TEMPLATES = {
    "nftables.conf": "firewall/templates/nftables.conf.j2",
    "site.conf": "nginx/templates/site.conf.j2",
    "pg_hba.conf": "postgresql/templates/pg_hba.conf.j2",
    "postgresql.conf": "postgresql/templates/server.conf.j2",
    "store.conf": "redis/templates/store.conf.j2",
    "quay@.service": "app/templates/app@.service.j2",
    "balancer.service": "balancer/templates/balancer.service.j2",
    "catch-up.service": "fleet/templates/catch-up.service.j2",
}
ADDRESSES = {
    "lb1": "10.0.0.10",
    "web1": "10.0.0.11",
    "web2": "fd00::12",
    "db1": "10.0.0.13",
}
GROUPS = {"balancer": ["lb1"], "app": ["web1", "web2"], "database": ["db1"], "cache": ["db1"]}
#: The answers of the provider's DHCPv6 (RFC 8415, 7.2).
DHCP = "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept"
SECRETS = {
    "vault_database_password": "secret-of-the-service",
    "vault_database_owner_password": "secret-of-the-owner",
    "vault_cache_password": "secret-of-the-cache",
}


def inventory() -> dict[str, Any]:
    hosts = {
        name: {"facts": facts("debian-12"), "ansible_host": address}
        for name, address in ADDRESSES.items()
    }
    groups = {group: {"hosts": dict.fromkeys(names)} for group, names in GROUPS.items()}
    return {"all": {"hosts": hosts}, **groups}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder of rendered files of each host."""
    folder = tmp_path_factory.mktemp("fleet")
    return render(folder, {**SETTINGS, **SECRETS}, TEMPLATES, inventory())


def opened(path: Path) -> list[str]:
    """The rules of a firewall that let new connections in, those of operators left out."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return sorted(
        line
        for line in lines
        if "dport" in line and line.endswith("accept") and "192.0.2." not in line
        and "2001:db8:" not in line
    )  # fmt: skip


def test_only_the_balancer_is_open_to_everybody(fleet: dict[str, Path]) -> None:
    assert opened(fleet["lb1"] / "nftables.conf") == [
        DHCP,
        "tcp dport { 80, 443 } accept",
    ]
    assert opened(fleet["web1"] / "nftables.conf") == [
        "ip saddr { 10.0.0.10, 10.0.0.11 } tcp dport 443 accept",
        DHCP,
        "ip6 saddr { fd00::12 } tcp dport 443 accept",
    ]
    assert opened(fleet["db1"] / "nftables.conf") == [
        "ip saddr { 10.0.0.11 } tcp dport 5432 accept",
        "ip saddr { 10.0.0.11 } tcp dport 6379 accept",
        DHCP,
        "ip6 saddr { fd00::12 } tcp dport 5432 accept",
        "ip6 saddr { fd00::12 } tcp dport 6379 accept",
    ]


def test_the_database_wants_tls_and_a_password_of_exactly_the_hosts_that_serve(
    fleet: dict[str, Path],
) -> None:
    lines = [line.split() for line in (fleet["db1"] / "pg_hba.conf").read_text().splitlines()]
    remote = [words for words in lines if words and words[0].startswith("host")]
    assert {words[0] for words in remote} == {"hostssl"}
    assert {words[3] for words in remote} == {"10.0.0.11/32", "fd00::12/128"}
    assert {words[-1] for words in remote} == {"scram-sha-256"}
    settings = (fleet["db1"] / "postgresql.conf").read_text()
    assert "listen_addresses = '*'" in settings
    # Two hosts, each with a web part and two workers.
    assert "max_connections = '296'" in settings


def test_the_balancer_verifies_the_hosts_and_they_believe_only_it(fleet: dict[str, Path]) -> None:
    balancer = (fleet["lb1"] / "site.conf").read_text()
    assert "server 10.0.0.11:443 max_fails=3" in balancer
    assert "server [fd00::12]:443 max_fails=3" in balancer
    assert "proxy_ssl_verify on;" in balancer
    assert "proxy_pass https://quay;" in balancer
    served = (fleet["web1"] / "site.conf").read_text()
    assert "set_real_ip_from 10.0.0.10;" in served
    assert served.count("set_real_ip_from") == 1
    assert "server unix:/srv/quay/current/web.sock" in served
    assert "set_real_ip_from" not in balancer


@pytest.mark.parametrize("names", [["quay.example"], ["new.example", "quay.example"]])
def test_the_name_that_hosts_are_verified_by_is_none_of_the_public(
    names: list[str], tmp_path: Path
) -> None:
    settings = {**SETTINGS, **SECRETS, "tls_domains": names}
    sites = render(tmp_path, settings, {"site.conf": TEMPLATES["site.conf"]}, inventory())
    balancer = (sites["lb1"] / "site.conf").read_text()
    assert "proxy_ssl_name quay.fleet;" in balancer
    public = f"server_name {' '.join(names)};"
    assert balancer.count(public) == 2
    served = (sites["web1"] / "site.conf").read_text()
    # The balancer asks by it over TLS, and passes on what the client asked for.
    assert f"server_name {' '.join(names)} quay.fleet;" in served
    assert served.count(public) == 1
    assert "proxy_set_header Host $host;" in balancer


def test_the_service_reaches_the_database_and_the_cache_alone(fleet: dict[str, Path]) -> None:
    unit = (fleet["web1"] / "quay@.service").read_text()
    assert "IPAddressDeny=any" in unit
    assert "IPAddressAllow=10.0.0.13\n" in unit
    assert "PrivateNetwork=yes" not in unit


def test_no_secret_is_in_a_unit_or_a_site(fleet: dict[str, Path]) -> None:
    for host in fleet.values():
        for name in TEMPLATES.keys() - {"store.conf"}:
            assert "secret-of-the" not in (host / name).read_text(), name


def run(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    program = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
    assert program, f"{command[0]} is missing: `make test` installs what the tests need"
    return subprocess.run(
        [program, *command[1:]], input=text, capture_output=True, text=True, check=False
    )


def test_a_host_is_out_by_rules_that_nftables_takes(tmp_path: Path) -> None:
    settings = slipway_balancer.Settings(
        app="quay-2",
        name="quay.example",
        hosts={"web1": "10.0.0.11", "web2": "fd00::12"},
        certificates="",
        certificate_name="quay-2.fleet",
        port=443,
        user="root",
        health_path="/health",
        version_key="release",
        drain_seconds=1.0,
    )
    path = tmp_path / "out.nft"
    for out in ([], ["10.0.0.11"], ["10.0.0.11", "fd00::12"]):
        text = slipway_balancer.rules(settings, out)
        path.write_text(text)
        result = run("unshare", "--net", "nft", "--check", "--file", str(path))
        assert result.returncode == 0, result.stderr
        assert text.count("reject with tcp reset") == len(out)


@pytest.mark.parametrize(("asked", "status"), [("quay.fleet", 0), ("new.fleet", 1)])
def test_a_site_goes_on_by_its_name_until_the_hosts_have_the_new_one(
    asked: str, status: int, tmp_path: Path
) -> None:
    script = yaml.safe_load((ROOT / "roles/nginx/vars/main.yml").read_text())["__nginx_ask"]
    site, nobody = tmp_path / "quay.conf", tmp_path / "nobody.pem"
    site.write_text("    proxy_ssl_name quay.fleet;\n")
    result = run("sh", "-c", script, "-", str(site), asked, str(nobody), "127.0.0.1", "::1")
    assert result.returncode == status
    assert result.stdout.split() == ["127.0.0.1", "::1"][: 2 * status]
    # The first site has no name to go on with.
    first = run("sh", "-c", script, "-", str(nobody), asked, str(nobody), "127.0.0.1")
    assert first.returncode == 0


@pytest.mark.parametrize("unit", ["balancer.service", "catch-up.service"])
def test_systemd_accepts_the_units(fleet: dict[str, Path], unit: str, tmp_path: Path) -> None:
    text = (fleet["lb1"] / unit).read_text()
    for command in ("/usr/local/sbin/slipway-balancer", "/usr/local/sbin/slipway"):
        text = text.replace(f"{command} ", "/bin/true ")
    path = tmp_path / f"quay-{unit}"
    path.write_text(text)
    result = run("systemd-analyze", "verify", "--man=no", str(path))
    assert [line for line in result.stderr.splitlines() if path.name in line] == []


def test_websockets_pass_through_the_balancer_with_the_address_that_it_saw(
    fleet: dict[str, Path],
) -> None:
    for host, upstream in (("lb1", "https://quay"), ("web1", "http://quay")):
        site = (fleet[host] / "site.conf").read_text()
        place = site.partition("location ^~ /ws/ {\n        limit_conn")[2].partition("\n    }")[0]
        assert f"proxy_pass {upstream};" in place
        assert "proxy_set_header Upgrade $http_upgrade;" in place
        # On a host, the address that its balancer has told.
        assert "proxy_set_header X-Forwarded-For $remote_addr;" in place
        assert "quay_sockets 100;" in place
        assert "limit_req zone=quay_socket_rate burst=100 nodelay;" in place
