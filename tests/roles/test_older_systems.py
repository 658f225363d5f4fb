"""What the older distributions lack is written in the way that they know."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.conftest import SETTINGS
from tests.roles.rendering import ROOT, facts, render

TEMPLATES = {
    "store.conf": "redis/templates/store.conf.j2",
    "sandbox.conf": "postgresql/templates/sandbox.conf.j2",
}
#: Distribution → version of its PostgreSQL.
SYSTEMS = {"ubuntu-22.04": 14, "debian-12": 15, "debian-13": 17}
REMOTE = {
    "vault_database_password": "secret-of-the-service",
    "vault_database_owner_password": "secret-of-the-owner",
    "vault_cache_password": "secret-of-the-cache",
}
everywhere = pytest.mark.parametrize("system", SYSTEMS)


def rendered(folder: Path, groups: dict[str, list[str]], **said: Any) -> dict[str, Path]:
    """Folder of rendered files of each distribution, as a host of some groups."""
    hosts: dict[str, Any] = {
        name: {"facts": facts(name), "ansible_host": f"10.0.0.{number}"}
        for number, name in enumerate(SYSTEMS, start=1)
    }
    inventory = {name: {"hosts": dict.fromkeys(members)} for name, members in groups.items()}
    settings = {**SETTINGS, **REMOTE, **said}
    return render(folder, settings, TEMPLATES, {"all": {"hosts": hosts}, **inventory})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Hosts that do everything, but for a cache that is told to listen."""
    groups = {group: list(SYSTEMS) for group in ("app", "database", "cache")}
    return rendered(tmp_path_factory.mktemp("alone"), groups, redis_port=6379)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Hosts of a database and a cache that serve the app host of a fleet."""
    groups = {"app": ["debian-13"], "database": ["debian-12"], "cache": list(SYSTEMS)}
    return rendered(tmp_path_factory.mktemp("apart"), groups)


def said(path: Path, *names: str) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith(names)]


@everywhere
def test_the_statistics_of_an_older_postgresql_reach_their_collector(
    alone: dict[str, Path], system: str
) -> None:
    """It is a UDP socket of the loopback interface up to version 14: no autovacuum without it."""
    lines = said(alone[system] / "sandbox.conf", "RestrictAddress", "IPAddress", "PrivateNetwork")
    if SYSTEMS[system] < 15:
        assert lines == [
            "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
            "IPAddressDeny=any",
            "IPAddressAllow=localhost",
            "PrivateNetwork=yes",
        ]
    else:
        assert lines == [
            "RestrictAddressFamilies=AF_UNIX",
            "IPAddressDeny=any",
            "PrivateNetwork=yes",
        ]


@everywhere
def test_a_database_for_other_hosts_is_bounded_by_the_firewall_alone(
    apart: dict[str, Path], system: str
) -> None:
    lines = said(apart[system] / "sandbox.conf", "RestrictAddress", "IPAddress", "PrivateNetwork")
    assert lines == ["RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"]


@everywhere
def test_a_cache_of_a_fleet_listens_on_all_addresses(apart: dict[str, Path], system: str) -> None:
    """Redis 6.0 has no word for them, and listens on all when it is told of none."""
    lines = said(apart[system] / "store.conf", "port ", "bind ", "requirepass ")
    password = 'requirepass "secret-of-the-cache"'
    if system == "ubuntu-22.04":
        assert lines == ["port 6379", password]
    else:
        assert lines == ["port 6379", "bind * -::*", password]


@everywhere
def test_an_address_that_may_be_missing_has_no_mark_where_none_is_known(
    alone: dict[str, Path], system: str
) -> None:
    mark = "" if system == "ubuntu-22.04" else "-"
    assert said(alone[system] / "store.conf", "bind ") == [f"bind 127.0.0.1 {mark}::1"]


def test_what_reads_package_sources_is_there_before_one_is_added() -> None:
    """Ubuntu 22.04 has no Python for the service, and comes without python3-debian."""
    tasks = yaml.safe_load((ROOT / "roles/python/tasks/main.yml").read_text())
    modules = [next(key for key in task if key.startswith("ansible.")) for task in tasks]
    source = tasks[modules.index("ansible.builtin.deb822_repository")]
    reader, last = (task for task in tasks if "ansible.builtin.apt" in task)
    assert tasks.index(reader) < tasks.index(source) < tasks.index(last)
    assert reader["ansible.builtin.apt"]["name"] == "python3-debian"
    assert "python_repository | length > 0" in reader["when"]
    # A check installs nothing, so that it cannot go on to what needs the package.
    assert f"not (ansible_check_mode and {reader['register']} is changed)" in source["when"]
    assert any(
        "ansible_check_mode" in condition and f"{source['register']} is changed" in condition
        for condition in last["when"]
    )
