"""The certificates of a fleet: made, told to all, and replaced without a moment of distrust."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.roles.plays import run_play

#: What a host of the fleet shows, and what its balancer trusts, whenever Nginx is told of it.
SYSTEMCTL = """#!/bin/sh
case "$*" in
*is-active*) exit 0 ;;
*"reload nginx"*)
    shown=$(openssl x509 -noout -fingerprint -in "$FOLDER/web1-own/fullchain.pem")
    trusted=$(grep -c BEGIN "$FOLDER/lb1.pem")
    printf '%s %s\n' "$shown" "$trusted" >>"$FOLDER/reloads"
    ;;
esac
"""


class Fleet:
    """A host that serves and a balancer, which are folders of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = folder / "web1-own/fullchain.pem"
        self.key = folder / "web1-own/privkey.pem"
        self.trusted = folder / "lb1.pem"
        hosts = {name: {"ansible_connection": "local"} for name in ("web1", "lb1")}
        (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        settings = {
            "fleet_app": "quay",
            "fleet_name": "quay.fleet",
            "fleet_hosts": ["web1"],
            "fleet_balancers": ["lb1"],
            "fleet_certificate": str(self.certificate),
            "fleet_certificate_key": str(self.key),
            "fleet_current": str(folder / "current"),
            "fleet_certificates": str(folder) + "/{{ inventory_hostname }}.pem",
            "__fleet_settle_seconds": 0.1,
        }
        (folder / "settings.json").write_text(json.dumps(settings))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the role as the playbook does."""
        known = {"packages": {"openssl": []}, "cacheable": True}
        play: dict[str, Any] = {
            "hosts": "all",
            "gather_facts": False,
            "pre_tasks": [{"ansible.builtin.set_fact": known}],
            "roles": ["fleet"],
        }
        sources = (
            f"--inventory={self.folder}/hosts.json",
            f"--extra-vars=@{self.folder}/settings.json",
        )
        return run_play(self.folder, play, *sources, *arguments)

    def install(self, *command: str) -> None:
        """Make a certificate as it was made for the public name."""
        self.certificate.parent.mkdir()
        made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9"
        files = ["-keyout", str(self.key), "-out", str(self.certificate), "-subj", "/CN=web1"]
        subprocess.run([*made.split(), *files, *command], check=True, capture_output=True)

    def fingerprint(self) -> str:
        return openssl("-fingerprint", "-in", str(self.certificate)).strip()

    def is_for(self, name: str) -> bool:
        return "does match" in openssl("-checkhost", name, "-in", str(self.certificate))


def openssl(*arguments: str) -> str:
    command = ["openssl", "x509", "-noout", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def unchanged(result: subprocess.CompletedProcess[str]) -> bool:
    return result.returncode == 0 and result.stdout.count("changed=0 ") == 2


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL)
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    return Fleet(tmp_path)


def test_a_new_host_is_known_by_the_name_of_the_fleet(fleet: Fleet) -> None:
    result = fleet.run()
    assert result.returncode == 0, result.stdout + result.stderr
    assert fleet.is_for("quay.fleet")
    assert fleet.trusted.read_text() == fleet.certificate.read_text()
    assert unchanged(fleet.run())


def test_a_certificate_for_another_name_is_replaced_while_both_are_trusted(fleet: Fleet) -> None:
    fleet.install("-addext", "subjectAltName=DNS:old.example")
    fleet.trusted.write_text(fleet.certificate.read_text())
    old, key = fleet.fingerprint(), fleet.key.read_text()
    checked = fleet.run("--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert fleet.fingerprint() == old

    result = fleet.run()
    assert result.returncode == 0, result.stdout + result.stderr
    # A balancer that was not yet told the new name goes on by the old one.
    assert (fleet.is_for("quay.fleet"), fleet.is_for("old.example")) == (True, True)
    assert fleet.key.read_text() == key
    assert fleet.trusted.read_text() == fleet.certificate.read_text()
    new = fleet.fingerprint()
    told = (fleet.folder / "reloads").read_text().splitlines()
    # All trust both, then the host shows the new one, and only then the old one is forgotten.
    assert list(dict.fromkeys(told)) == [f"{old} 2", f"{new} 2", f"{new} 1"]
    assert unchanged(fleet.run())


def test_a_placeholder_is_replaced(fleet: Fleet) -> None:
    fleet.install()
    assert fleet.run().returncode == 0
    assert fleet.is_for("quay.fleet")


@pytest.mark.parametrize("host", ["lb1", "web1"])
def test_without_the_whole_fleet_nothing_is_replaced(fleet: Fleet, host: str) -> None:
    fleet.install("-addext", "subjectAltName=DNS:old.example")
    old = fleet.certificate.read_text()
    result = fleet.run(f"--limit={host}")
    said = " ".join(result.stdout.split())
    assert result.returncode != 0
    assert "web1 is for another name than quay.fleet" in said
    assert "run playbook.yml without --limit" in said
    assert fleet.certificate.read_text() == old
    # What was begun is gone on with.
    assert fleet.run().returncode == 0
    assert fleet.is_for("quay.fleet")
    assert fleet.trusted.read_text() == fleet.certificate.read_text()
