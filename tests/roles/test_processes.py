"""Processes and addresses that no unit can be written for are refused, with a sentence."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.plays import ROOT, run_play


def refuse(folder: Path, allowed: Any = (), **processes: Any) -> str:
    """What the role says of processes and of what all may reach; '' when it takes them."""
    tasks = yaml.safe_load((ROOT / "roles/app/tasks/checks.yml").read_text())
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROOT / "roles/app/vars/main.yml")],
        "vars": {
            "app_name": "quay",
            "app_processes": processes,
            "app_allowed_addresses": allowed,
            "app_web_addresses": [],
            "app_data_folders": [],
        },
        "tasks": tasks,
    }
    result = run_play(folder, play, "--inventory=localhost,")
    said = " ".join((result.stdout + result.stderr).split())
    assert f"ok={3 if processes else 2}" in said or result.returncode
    return said if result.returncode else ""


def test_networks_and_words_of_systemd_are_taken(tmp_path: Path) -> None:
    addresses = ["192.0.2.25", "198.51.100.0/24", "2001:db8::/64", "any"]
    assert refuse(tmp_path, mail={"command": "python -m mail", "addresses": addresses}) == ""
    assert refuse(tmp_path, allowed=addresses) == ""


@pytest.mark.parametrize("addresses", [["10.0.0.0/16", "db.example"], "10.0.0.0/16"])
def test_what_all_may_reach_is_networks(tmp_path: Path, addresses: Any) -> None:
    said = refuse(tmp_path, allowed=addresses)
    assert "app_allowed_addresses, app_web_addresses, and the addresses of a process" in said
    assert ("db.example" in said) is isinstance(addresses, list)


@pytest.mark.parametrize(
    ("process", "reason"),
    [
        ({"command": "x", "addresses": ["smtp.example.com"]}, '[["smtp.example.com"]]'),
        ({"command": "x", "addresses": "192.0.2.25"}, "must be lists of IP addresses"),
        ({"addresses": ["any"]}, "an entry without command"),
        ({"command": "x", "ports": [25]}, "command, schedule, seconds and addresses"),
    ],
)
def test_what_systemd_would_not_understand_is_named(
    tmp_path: Path, process: dict[str, Any], reason: str
) -> None:
    assert reason in refuse(tmp_path, mail=process)
