"""A database that is not the kit's is found by its name, and hosts of the inventory need none."""

from pathlib import Path
from typing import Any

import pytest

from tests.roles.conftest import SETTINGS
from tests.roles.rendering import TEMPLATES, facts, render

NAME_SERVERS = ["localhost", "192.0.2.53", "fe80::1"]
UNITS = {
    *("quay@.service", "quay-preflight@.service", "run.conf", "quay.mail@.service"),
    *("quay-migrate@.service", "quay-contract@.service", "quay-restore-point@.service"),
}


def allowed(folder: Path, groups: dict[str, list[str]], **said: Any) -> dict[str, list[str]]:
    """What each unit of a host of the service may reach."""
    names = sorted({name for members in groups.values() for name in members})
    hosts = {
        name: {"facts": facts("debian-13"), "ansible_host": f"10.0.0.{number}"}
        for number, name in enumerate(names, start=1)
    }
    inventory = {group: {"hosts": dict.fromkeys(members)} for group, members in groups.items()}
    templates = {file: TEMPLATES[file] for file in UNITS}
    passwords = ("vault_database_password", "vault_database_owner_password", "vault_cache_password")
    secrets = dict.fromkeys(passwords, "a-secret-of-the-test")
    settings = {**SETTINGS, **secrets, **said}
    found = render(folder, settings, templates, {"all": {"hosts": hosts}, **inventory})
    return {
        file: [
            line.removeprefix("IPAddressAllow=")
            for line in (found["web1"] / file).read_text().splitlines()
            if line.startswith("IPAddressAllow=")
        ]
        for file in UNITS
    }


def test_a_managed_database_is_found_by_its_name(tmp_path: Path) -> None:
    networks = ["10.0.0.0/16"]
    found = allowed(tmp_path, {"app": ["web1"]}, app_allowed_addresses=networks)
    assert found == dict.fromkeys(UNITS, networks + NAME_SERVERS)


@pytest.mark.parametrize("beside", [[], ["10.7.0.0/16"]])
def test_hosts_of_the_inventory_open_no_name_server(tmp_path: Path, beside: list[str]) -> None:
    groups = {"app": ["web1"], "database": ["db1"], "cache": ["db1"]}
    said = {"app_allowed_addresses": ["10.0.0.1", *beside]} if beside else {}
    found = allowed(tmp_path, groups, **said)
    wanted = ["10.0.0.1", *beside, *(NAME_SERVERS if beside else [])]
    assert found == dict.fromkeys(UNITS, wanted)
