"""What a balancer keeps of hosts that are gone, and of one that comes back without a release."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from roles.balancer.files import slipway_balancer
from tests.roles.plays import ROOT, run_play

IN = {"out": False, "version": "", "until": 0.0}
NEW = {"out": True, "version": "", "until": 0.0}
BY_COMMAND = {"out": True, "version": None, "until": 0.0}
FOR_A_VERSION = {"out": True, "version": "v1.4.2", "until": 0.0}
SETTINGS: dict[str, Any] = {
    "app": "quay",
    "name": "quay.example",
    "hosts": {"web1": "10.0.0.11", "web2": "10.0.0.12"},
    "certificates": "",
    "certificate_name": "quay.fleet",
    "port": 443,
    "user": "www-data",
    "health_path": "/health",
    "version_key": "release",
    "drain_seconds": 1.0,
}


class Kept:
    """The files of a balancer and the rules that it has loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "state/quay"
        self.folder.mkdir(parents=True)
        self.rules = folder / "rules"
        (folder / "settings").mkdir()
        (folder / "settings/quay.json").write_text(json.dumps(SETTINGS))

    def wish(self, host: str, wish: dict[str, object]) -> None:
        (self.folder / f"{host}.json").write_text(json.dumps(wish))

    def wishes(self) -> dict[str, dict[str, object]]:
        return {path.stem: json.loads(path.read_text()) for path in self.folder.glob("*.json")}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "nft").write_text(f"#!/bin/sh\ncat >{tmp_path}/rules\n")
    (programs / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(slipway_balancer, "SETTINGS", tmp_path / "settings")
    monkeypatch.setattr(slipway_balancer, "STATE", tmp_path / "state")
    return Kept(tmp_path)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["slipway-balancer", "--app=quay", *arguments])
    return slipway_balancer.main()


def test_a_host_that_came_back_without_a_release_is_out_until_it_is_well(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.wish("web1", IN)
    kept.wish("web2", IN)
    assert command(monkeypatch, "new", "web2") == 0
    assert kept.wishes() == {"web1": IN, "web2": NEW}
    rules = kept.rules.read_text()
    assert ("10.0.0.12" in rules, "10.0.0.11" in rules) == (True, False)
    # One that has no release could answer nobody, although it is the last.
    assert command(monkeypatch, "new", "web1") == 0
    assert kept.wishes()["web1"] == NEW


@pytest.mark.parametrize("wish", [BY_COMMAND, FOR_A_VERSION])
def test_what_keeps_it_out_already_stays(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, wish: dict[str, object]
) -> None:
    kept.wish("web2", wish)
    assert command(monkeypatch, "new", "web2") == 0
    assert kept.wishes() == {"web2": wish}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_connection_to_a_host_is_seen_while_it_is_open(address: str, tmp_path: Path) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        port = listener.getsockname()[1]
        settings = slipway_balancer.Settings(
            **{**SETTINGS, "hosts": {"web1": address, "web2": "2001:db8::1:443"}, "port": port}
        )
        balancer = slipway_balancer.Balancer(settings, tmp_path)
        assert not balancer.connected("web1")
        with socket.create_connection((address, port)):
            assert balancer.connected("web1")
            assert not balancer.connected("web2")
        assert not balancer.connected("web1")


def test_a_host_that_is_gone_is_forgotten(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("web1", "web2", "web9"):
        kept.wish(host, IN)
    assert command(monkeypatch, "load") == 0
    assert kept.wishes() == {"web1": IN, "web2": IN}
    # The role restarts the unit when the hosts change, which loads them first.
    unit = (ROOT / "roles/balancer/templates/balancer.service.j2").read_text()
    assert "ExecStartPre=/usr/local/sbin/slipway-balancer --app {{ balancer_app }} load\n" in unit


@pytest.mark.parametrize(
    ("current", "wish", "options", "told"),
    [
        (False, IN, [], True),
        (False, IN, ["--check"], False),
        (False, NEW, [], False),
        (False, None, [], False),
        (True, IN, [], False),
    ],
)
def test_the_balancer_is_told_before_nginx_is_up(
    tmp_path: Path,
    current: bool,
    wish: dict[str, object] | None,
    options: list[str],
    told: bool,
) -> None:
    if current:
        (tmp_path / "current").symlink_to("releases/v1.0.0")
    path = tmp_path / "web2.json"
    if wish:
        path.write_text(json.dumps(wish))
    # The program of this machine in the place of the balancer's.
    program = tmp_path / "slipway-balancer"
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/told\n')
    program.chmod(0o755)
    tasks = (ROOT / "roles/fleet/tasks/newcomer.yml").read_text()
    tasks = tasks.replace("/usr/local/sbin/slipway-balancer", str(program))
    play = {
        "hosts": "web2",
        "gather_facts": False,
        "tasks": yaml.safe_load(tasks),
        "vars": {
            "fleet_app": "quay",
            "fleet_balancers": ["lb1"],
            "fleet_current": str(tmp_path / "current"),
            "__fleet_wish": str(path),
        },
    }
    hosts = {name: {"ansible_connection": "local"} for name in ("web2", "lb1")}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    result = run_play(tmp_path, play, f"--inventory={tmp_path}/hosts.json", *options)
    assert result.returncode == 0, result.stdout + result.stderr
    heard = tmp_path / "told"
    assert heard.exists() is told
    if told:
        assert heard.read_text() == "--app=quay new web2\n"
    changes = told or "--check" in options
    assert ("changed=0 " in result.stdout) is not changes
