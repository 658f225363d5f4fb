"""A host whose releases can be held at a step, and versions that were never released."""

import time
from collections.abc import Iterator

import pytest

from tests.hosts.faults import FaultyHost
from tests.hosts.machine import Machine
from tests.hosts.repository import Repository


@pytest.fixture(scope="module")
def host(machine: Machine, repository: Repository) -> Iterator[FaultyHost]:
    faulty = FaultyHost(machine, repository)
    faulty.install()
    yield faulty
    faulty.restore()


@pytest.fixture(scope="module")
def version() -> Iterator[str]:
    """Versions that were never released before, each above the last."""
    begin = int(time.time())
    return (f"v1.{begin}.{number}" for number in range(1000))
