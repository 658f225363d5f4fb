"""The port of SSH moves without a moment in which nobody can come in."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.conftest import SETTINGS
from tests.roles.rendering import ROOT, facts

QUESTION = "Ask by which port Ansible comes"
TEMPLATES = {
    "sshd.conf": "base/templates/sshd.conf.j2",
    "nftables.conf": "firewall/templates/nftables.conf.j2",
}


def tasks(path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "roles" / path).read_text())
    return found


def questions() -> list[dict[str, Any]]:
    """The task of each of the two roles that asks the host how Ansible comes to it."""
    files = ("base/tasks/system.yml", "firewall/tasks/main.yml")
    found = [task for file in files for task in tasks(file) if task["name"] == QUESTION]
    assert len(found) == 2
    return found


def play(
    folder: Path,
    steps: list[dict[str, Any]],
    settings: dict[str, Any],
    came: str,
    refused: bool = False,
) -> str:
    """Runs tasks with what both roles and the kit say; answers what was printed."""
    kit = yaml.safe_load((ROOT / "inventories/shared/kit.yml").read_text())
    files = [ROOT / f"roles/{role}/{part}/main.yml" for role in ("base", "firewall")
             for part in ("defaults", "vars")]  # fmt: skip
    document = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "become": True,
        "become_method": "ansible.builtin.su",
        "vars_files": [str(path) for path in files],
        "tasks": [
            {"given_facts": {"facts": facts("ubuntu-24.04")}, "vars": {"ansible_become": False}},
            *steps,
        ],
    }
    (folder / "settings.json").write_text(json.dumps({**kit, **SETTINGS, **settings}))
    (folder / "play.json").write_text(json.dumps([document]))
    (folder / "hosts.json").write_text(
        json.dumps({"all": {"hosts": {"web1": {}}}, "app": {"hosts": {"web1": {}}}})
    )
    result = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={folder / 'hosts.json'}",
            f"--extra-vars=@{folder / 'settings.json'}",
            f"--module-path={ROOT / 'tests/roles/library'}",
            str(folder / "play.json"),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_DISPLAY_OK_HOSTS": "true",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "SSH_CONNECTION": came,
        },
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (result.returncode != 0) is refused, result.stdout + result.stderr
    return " ".join((result.stdout + result.stderr).split())


def files_of(folder: Path, settings: dict[str, Any], came: str) -> tuple[list[str], str]:
    """The ports that the SSH server listens on, and the rules of the firewall."""
    folder.mkdir()
    steps: list[dict[str, Any]] = [
        {
            "ansible.builtin.template": {
                "src": f"{ROOT}/roles/{template}",
                "dest": str(folder / file),
                "mode": "0600",
            },
            "vars": {"ansible_become": False},
        }
        for file, template in TEMPLATES.items()
    ]
    play(folder, [*questions(), *steps], settings, came)
    lines = (folder / "sshd.conf").read_text().splitlines()
    ports = [line.removeprefix("Port ") for line in lines if line.startswith("Port ")]
    return ports, (folder / "nftables.conf").read_text()


def test_the_old_port_closes_once_ansible_comes_by_the_new_one(tmp_path: Path) -> None:
    for came, expected in (("22", ["2222", "22"]), ("2222", ["2222"])):
        ports, rules = files_of(
            tmp_path / came, {"base_ssh_port": 2222}, f"192.0.2.7 50000 192.0.2.9 {came}"
        )
        assert ports == expected
        for port in ("22", "2222"):
            opened = f"ip saddr {{ 192.0.2.0/24 }} tcp dport {port} accept" in rules
            assert opened is (port in expected)


def test_without_networks_of_operators_everybody_reaches_both(tmp_path: Path) -> None:
    settings = {"base_ssh_port": 2222, "firewall_ssh_sources": []}
    _, rules = files_of(tmp_path / "open", settings, "2001:db8::7 50000 2001:db8::9 22")
    assert "tcp dport { 22, 80, 443, 2222 } accept" in rules


def test_the_stock_port_is_one_port_and_a_local_connection_has_none(tmp_path: Path) -> None:
    for name, came in (("ssh", "192.0.2.7 50000 192.0.2.9 22"), ("local", "")):
        ports, rules = files_of(tmp_path / name, {}, came)
        assert ports == ["22"]
        assert rules.count("tcp dport 22 accept") == 2  # IPv4 and IPv6


@pytest.mark.parametrize("taken", [True, False])
def test_a_port_that_another_program_has_is_refused(tmp_path: Path, taken: bool) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        if taken:
            other.listen()
        steps = [task for task in tasks("base/tasks/system.yml") if "port" in task["name"][:40]]
        steps = [{**step, "vars": {"ansible_become": False}} for step in steps]
        assert [step["name"] for step in steps[:3]] == [
            QUESTION,
            "Look who has the new port",
            "Refuse a port for SSH that another program has",
        ]
        came = "192.0.2.7 50000 192.0.2.9 22"
        told = play(tmp_path, steps, {"base_ssh_port": port}, came, refused=taken)
    if taken:
        assert f"web1 has another program on port {port}: LISTEN" in told
        assert "Set base_ssh_port to a port that is free." in told
    else:
        assert f"listens on {port}, and on 22 as long as Ansible comes by it" in told
        assert f"set ansible_port to {port} in the inventory" in told


@pytest.mark.parametrize(
    ("unit", "anew"),
    [
        ({"ActiveState": "active", "Accept": "no"}, True),  # Ubuntu since 24.04
        ({"ActiveState": "inactive", "Accept": "yes"}, False),  # Debian
        ({}, False),
    ],
)
def test_who_holds_the_ports_opens_them_anew(
    tmp_path: Path, unit: dict[str, str], anew: bool
) -> None:
    # The last one only notes that the others went well.
    *handlers, _ = (
        task for task in tasks("base/handlers/main.yml") if task.get("listen") == "Reload SSH"
    )
    steps: list[dict[str, Any]] = [
        {"ansible.builtin.set_fact": {"__base_ssh_socket": {"status": unit}}}
    ]
    for handler in handlers:
        if "when" not in handler:
            continue
        said = json.dumps(handler["ansible.builtin.systemd_service"])
        step = {name: value for name, value in handler.items() if name in {"name", "when"}}
        steps.append({**step, "ansible.builtin.debug": {"msg": said}})
    for step in steps:
        step["vars"] = {"ansible_become": False}
    told = play(tmp_path, steps, {}, "").replace("\\", "")
    restarted = '{"name": "ssh.socket", "daemon_reload": true, "state": "restarted"}'
    reloaded = '{"name": "ssh.service", "state": "reloaded"}'
    assert (restarted in told) is anew
    assert (reloaded in told) is not anew
