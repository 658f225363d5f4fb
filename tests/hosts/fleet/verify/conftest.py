"""The hosts of the fleet, with the first release on those that serve."""

import asyncio
from pathlib import Path

import pytest

from tests.hosts.lab import status
from tests.hosts.machine import Machine
from tests.hosts.operator import Operator
from tests.hosts.repository import Repository

FIRST = "v0.1.0"


@pytest.fixture(scope="session")
def hosts(operator: Operator, repository: Repository) -> dict[str, Machine]:
    """Every host by its name."""
    lab = status()
    found = {
        host["name"]: Machine(
            name=host["name"],
            address=host["address"],
            address6=host["address6"],
            ssh=tuple(host["ssh"]),
            ca=Path(lab["ca_bundle"]),
            site=f"harbour.{lab['domain']}",
            app="harbour",
        )
        for host in lab["hosts"]
    }
    if found["web1"].run("test -e /srv/harbour/current", check=False).returncode:
        repository.tag(FIRST)
        result = asyncio.run(operator.release(FIRST))
        assert result.returncode == 0, result.text
    return found


@pytest.fixture(scope="session")
def machine(hosts: dict[str, Machine]) -> Machine:
    """The host that the public meets: the balancer."""
    return hosts["lb1"]
