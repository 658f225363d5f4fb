"""Releases that are hit, at every step: service goes on, and the next run converges.

The table is in docs/reliability.md. By default a few steps stand for all; `make test-faults` takes
every step of the release tool for each fault.
"""

import asyncio
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.hosts.faults import RELEASE_STEPS, FaultyHost, converges, ended, serves
from tests.hosts.injections import FAULTS, Fault, SmallDisk
from tests.hosts.load import Load, Site
from tests.hosts.machine import Machine
from tests.hosts.operator import Operator
from tests.hosts.record import Record
from tests.hosts.repository import ROOT

ALL = os.environ.get("SLIPWAY_FAULTS") == "all"
#: On the other scenarios a few cases show that nothing differs.
FIRST = Path(os.environ.get("SLIPWAY_LAB_STATE", "none")).name == "debian-12"
#: The first change, the switch, and what comes after the proof.
FEW = ["environment", "switch", "drain"]


def cases() -> list[tuple[Fault, str]]:
    """Every fault at every step, or each of them at one."""
    if ALL:
        return list(itertools.product(FAULTS, RELEASE_STEPS))
    some = list(zip(FAULTS, itertools.cycle(FEW), strict=False))
    return some if FIRST else some[:2]


power_steps = pytest.mark.parametrize(
    "step", RELEASE_STEPS if ALL else (FEW if FIRST else ["switch"])
)
disk_steps = pytest.mark.parametrize("step", RELEASE_STEPS if ALL else ["environment"])


@pytest.fixture(scope="module")
def record() -> Iterator[Record]:
    """Ends as the table, beside the other reports of the tests."""
    made = Record()
    yield made
    path = ROOT / ".slipway/reports/faults.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(made))


@power_steps
def test_the_host_loses_its_power(
    host: FaultyHost, client: httpx.Client, version: Iterator[str], record: Record, step: str
) -> None:
    candidate = host.bring(next(version))
    before = host.machine.release()
    with host.held(candidate, step):
        host.power_cut()
    seen = serves(host.machine, client)
    assert seen in {before, candidate.version}
    assert host.machine.release() == seen
    record.add("the host loses its power", seen == candidate.version, None)
    converges(host, client, candidate)


@pytest.mark.parametrize(("fault", "step"), cases(), ids=str)
async def test_a_fault_during_a_release(
    host: FaultyHost,
    client: httpx.Client,
    version: Iterator[str],
    token: str,
    record: Record,
    fault: Fault,
    step: str,
) -> None:
    await hit(host, client, next(version), token, record, fault, step)


async def hit(
    host: FaultyHost,
    client: httpx.Client,
    version: str,
    token: str,
    record: Record,
    fault: Fault,
    step: str,
) -> None:
    """Hold a release at a step under load, let the fault happen, and look at what became of it."""
    candidate, machine = host.bring(version), host.machine
    before = machine.release()
    either = {before, candidate.version}

    def release_through_it() -> None:
        with host.held(candidate, step) as held, fault.hits(machine, held):
            assert serves(machine, client) in either
            held.go_on()
            ended(machine)

    site = Site(machine.site, machine.address, machine.context)
    async with Load(site, token, connections=4) as load:
        await asyncio.to_thread(release_through_it)
    seen = serves(machine, client)
    assert seen in either
    assert machine.release() == seen
    if fault.harmless:
        assert seen == candidate.version
    assert load.report.requests > 100
    if not fault.loses:
        assert load.report.failures == []
    record.add(fault.name, seen == candidate.version, load.report)
    converges(host, client, candidate)


@pytest.mark.parametrize("step", RELEASE_STEPS if ALL else ["ready"])
def test_a_second_release_at_once_is_refused_and_names_the_first(
    host: FaultyHost, version: Iterator[str], record: Record, step: str
) -> None:
    first, second = host.bring(next(version)), host.bring(next(version))
    with host.held(first, step):
        refused = host.release(second)
    assert refused.returncode == 3
    text = refused.stdout + refused.stderr
    assert f"release {first.version}" in text
    assert "since" in text
    ended(host.machine)
    assert host.machine.release() == first.version
    record.add("a second release is asked for", True, None)


def test_the_database_and_the_cache_are_lost_for_a_moment(
    client: httpx.Client, machine: Machine, token: str, operator: Operator
) -> None:
    unit = f"{machine.app}@{machine.release()}.service"
    restarts = machine.run(f"systemctl show --value -p NRestarts {unit}").stdout
    ready = (
        "curl -s -o /dev/null -w '%{http_code}' "
        f"--unix-socket /srv/{machine.app}/current/web.sock http://localhost/health/ready"
    )
    database = machine.run(
        "systemctl list-units --plain --no-legend 'postgresql@*.service'"
    ).stdout.split()[0]
    machine.run(f"systemctl stop {database}")
    try:
        assert client.get("/health").status_code == 200
        assert machine.run(ready).stdout == "503"
        assert client.get("/api/v1/items").status_code in {500, 503}
    finally:
        machine.run(f"systemctl start {database}")
    machine.wait_for(f"test $({ready}) = 200", 30)
    assert client.get("/api/v1/items").status_code == 200
    cache = machine.run(
        "systemctl list-units --plain --no-legend 'redis-server.service' 'valkey-server.service'"
    ).stdout.split()[0]
    machine.run(f"systemctl stop {cache}")
    try:
        assert machine.run(ready).stdout == "200"
        assert client.get("/api/v1/items").status_code == 200
    finally:
        machine.run(f"systemctl start {cache}")
    assert machine.run(f"systemctl show --value -p NRestarts {unit}").stdout == restarts


@pytest.mark.parametrize("victim", ["worker", "master"])
def test_a_killed_process_is_replaced(client: httpx.Client, machine: Machine, victim: str) -> None:
    unit = f"{machine.app}@{machine.release()}.service"
    master = machine.run(f"systemctl show --value -p MainPID {unit}").stdout.strip()
    number = master
    if victim == "worker":
        number = machine.run(f"pgrep --parent {master} | head -n 1").stdout.strip()
    machine.run(f"kill -KILL {number}")
    serves(machine, client)
    machine.wait_for(f"! test -e /proc/{number}")
    machine.wait_for(
        f"test $(pgrep --parent $(systemctl show --value -p MainPID {unit}) | wc -l) -ge 2", 30
    )
    assert [client.get("/health").status_code for _ in range(20)] == [200] * 20


# The last ones of the file: the small disk stays until its end.
@pytest.fixture(scope="module")
def small(host: FaultyHost) -> Iterator[SmallDisk]:
    with SmallDisk(host.machine) as disk:
        yield disk


@disk_steps
@pytest.mark.skipif(not FIRST, reason="the disk is the same on every distribution")
async def test_the_disk_runs_full_during_a_release(
    host: FaultyHost,
    client: httpx.Client,
    version: Iterator[str],
    token: str,
    record: Record,
    small: SmallDisk,
    step: str,
) -> None:
    small.make_room()
    fault = Fault("the disk runs full", small.full)
    await hit(host, client, next(version), token, record, fault, step)
