"""A fleet behind its balancer, seen from outside: released under load, broken, and a host away."""

import asyncio
import json
import re
import secrets
import socket
import time

import httpx

from tests.hosts.lab import lab
from tests.hosts.load import Load, Report, Site
from tests.hosts.machine import Machine
from tests.hosts.operator import Operator
from tests.hosts.repository import Repository

#: Sick on one host of the fleet only; everything that proves a release before its health passes.
SICK = '''

_well = create_app


def create_app(settings=None):  # type: ignore
    """Make an application whose health is bad on web2."""
    import os

    application = _well(settings)
    if settings is not None or os.uname().nodename != "web2":
        return application

    async def sick(scope, receive, send):
        if scope.get("path") != "/health":
            return await application(scope, receive, send)
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"the mast is broken"})

    return sick
'''

Hosts = dict[str, Machine]


def site(machine: Machine) -> Site:
    return Site(machine.site, machine.address, machine.context)


def unharmed(report: Report) -> None:
    assert report.failures == []
    assert report.requests > 500
    assert report.methods["POST"] > 100


def live(hosts: Hosts) -> dict[str, str]:
    return {name: hosts[name].release() for name in ("web1", "web2")}


def sent_to(machine: Machine) -> dict[str, str]:
    """What the balancer does with each host: `in`, or `out` and until when."""
    text = machine.run("slipway-balancer --app harbour status").stdout
    return {line.split()[0]: re.split("  ", line.split(";")[0])[2] for line in text.splitlines()}


def wait_until_in(machine: Machine, name: str, seconds: float = 90.0) -> None:
    machine.wait_for(f"slipway-balancer --app harbour status | grep -q '^{name}  .*  in;'", seconds)


def reachable(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


def test_only_the_balancer_is_open(hosts: Hosts) -> None:
    assert reachable(hosts["lb1"].address, 443)
    for name, ports in {"web1": (80, 443), "web2": (80, 443), "db1": (80, 443, 5432, 6379)}.items():
        for port in ports:
            assert not reachable(hosts[name].address, port), f"{name}:{port}"
    database = hosts["db1"].address
    for port in (5432, 6379):
        question = f"timeout 2 bash -c '</dev/tcp/{database}/{port}'"
        assert hosts["web1"].run(question, check=False).returncode == 0
        assert hosts["lb1"].run(question, check=False).returncode != 0


def test_the_database_takes_no_connection_without_tls(hosts: Hosts) -> None:
    rules = "SELECT DISTINCT type, auth_method FROM pg_hba_file_rules WHERE address <> ''"
    query = f'runuser -u postgres -- psql -XAt -d postgres -c "{rules}"'
    assert hosts["db1"].run(query).stdout == "hostssl|scram-sha-256\n"
    sessions = (
        "SELECT count(*), bool_and(ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) "
        "WHERE a.client_addr IS NOT NULL"
    )
    count, encrypted = (
        hosts["db1"]
        .run(f'runuser -u postgres -- psql -XAt -d postgres -c "{sessions}"')
        .stdout.strip()
        .split("|")
    )
    assert int(count) > 0
    assert encrypted == "t"


def test_the_address_of_the_client_reaches_the_service(hosts: Hosts, client: httpx.Client) -> None:
    identity = f"fleet-{secrets.token_hex(8)}"
    headers = {"X-Request-ID": identity, "X-Forwarded-For": "203.0.113.9"}
    assert client.get("/api/v1/items", headers=headers).status_code == 200
    time.sleep(1)
    lines = ""
    for name in ("web1", "web2"):
        lines += hosts[name].run(f"journalctl -q -o json REQUEST_ID={identity}").stdout
        lines += hosts[name].run(f"journalctl -q -t nginx -o cat -g {identity}", check=False).stdout
    assert "203.0.113.9" not in lines
    assert hosts["lb1"].address not in lines
    gateway = hosts["lb1"].address.rsplit(".", 1)[0] + ".1"
    gateway6 = hosts["lb1"].address6.rsplit(":", 1)[0] + ":1"
    assert gateway in lines or gateway6 in lines


def test_what_hosts_tell_each_other_is_not_public(hosts: Hosts, client: httpx.Client) -> None:
    python = (
        "import sys; sys.path.insert(0, '/usr/local/lib/slipway'); from pathlib import Path; "
        "from slipway_release import fleet, settings; s = settings.load(None); "
        "print(fleet.newest(s, fleet.load(s, Path('/etc/slipway')))[1].version)"
    )
    assert hosts["web1"].run(f'python3 -c "{python}"').stdout.strip() == hosts["web1"].release()
    for headers in ({}, {"X-Forwarded-For": hosts["web2"].address}):
        assert client.get("/.slipway/fleet.json", headers=headers).status_code == 404


async def test_a_release_under_load_fails_no_request(
    hosts: Hosts, machine: Machine, operator: Operator, repository: Repository, token: str
) -> None:
    before = hosts["web1"].release()
    repository.tag("v0.2.0")
    async with Load(site(machine), token) as load:
        result = await operator.release("v0.2.0")
    assert result.returncode == 0, result.text
    assert live(hosts) == {"web1": "v0.2.0", "web2": "v0.2.0"}
    assert sent_to(machine) == {"web1": "in", "web2": "in"}
    unharmed(load.report)
    assert set(load.report.releases) == {before, "v0.2.0"}
    # The canary is through before the others begin.
    ended, begun = (
        json.loads(hosts[name].run("slipway --app harbour history --json").stdout)
        for name in ("web1", "web2")
    )
    first = next(entry for entry in ended if entry["version"] == "v0.2.0")
    second = next(entry for entry in begun if entry["version"] == "v0.2.0")
    assert first["started"] + first["seconds"] < second["started"]
    watched = machine.run("journalctl -q -t nginx_error -o cat --since=-2min", check=False).stdout
    assert "Connection refused" in watched, "no host was ever taken out"


async def test_when_a_later_host_fails_the_first_goes_back(
    hosts: Hosts, machine: Machine, operator: Operator, repository: Repository, token: str
) -> None:
    before = live(hosts)
    good = repository.read("app/main.py")
    repository.tag("v0.3.0", {"app/main.py": good + SICK})
    (repository.path / "app/main.py").write_text(good)
    repository.git("commit", "--quiet", "--all", "-m", "Mend it")
    async with Load(site(machine), token) as load:
        result = await operator.release("v0.3.0")
    assert result.returncode != 0
    assert "v0.3.0 is not live on web2" in result.text
    assert "the mast is broken" in result.text
    assert live(hosts) == before
    assert sent_to(machine) == {"web1": "in", "web2": "in"}
    unharmed(load.report)
    assert set(load.report.releases) == {*before.values(), "v0.3.0"}


async def test_a_host_that_was_away_catches_up_before_it_gets_requests(
    hosts: Hosts, machine: Machine, operator: Operator, repository: Repository, token: str
) -> None:
    before = live(hosts)
    repository.tag("v0.4.0")
    lab("power-cut", "web2")
    try:
        refused = await operator.release("v0.4.0")
        assert refused.returncode != 0
        assert "web2 cannot be reached" in " ".join(refused.text.split())
        assert "release_skip_unreachable=true" in refused.text
        assert hosts["web1"].release() == before["web1"]
        skipped = await operator.play(
            "deploy/release.yml", "-e", "release=v0.4.0", "-e", "release_skip_unreachable=true"
        )
        assert skipped.returncode == 0, skipped.text
        assert hosts["web1"].release() == "v0.4.0"
        assert sent_to(machine) == {"web1": "in", "web2": "out until it serves v0.4.0"}
    finally:
        lab("start", "web2")
    async with Load(site(machine), token, connections=8) as load:
        await asyncio.to_thread(wait_until_in, machine, "web2")
        await asyncio.sleep(4)
    assert live(hosts) == {"web1": "v0.4.0", "web2": "v0.4.0"}
    unharmed(load.report)
    assert set(load.report.releases) == {"v0.4.0"}
    assert hosts["web2"].run("systemctl --failed --plain --no-legend").stdout == ""


async def test_a_rollback_of_the_fleet_under_load_fails_no_request(
    hosts: Hosts, machine: Machine, operator: Operator, token: str
) -> None:
    async with Load(site(machine), token) as load:
        result = await operator.play("deploy/rollback.yml")
    assert result.returncode == 0, result.text
    assert live(hosts) == {"web1": "v0.2.0", "web2": "v0.2.0"}
    assert sent_to(machine) == {"web1": "in", "web2": "in"}
    unharmed(load.report)


def test_the_rules_come_back_with_the_firewall(machine: Machine) -> None:
    out = "slipway-balancer --app harbour out web2"
    try:
        assert "web2 is out" in machine.run(out).stdout
        machine.run("systemctl restart nftables.service")
        machine.wait_for("nft list table inet slipway_balancer_harbour | grep -q reject")
        assert "only host" in machine.run("slipway-balancer --app harbour out web1").stdout
    finally:
        machine.run("slipway-balancer --app harbour in web2")
    assert sent_to(machine) == {"web1": "in", "web2": "in"}
