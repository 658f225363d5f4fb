"""Releases that are hit, at every step: service goes on, and the next run converges.

The table is in docs/reliability.md. By default a few steps stand for all; `make test-faults` takes
every step of the release tool.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.hosts.faults import RELEASE_STEPS, Candidate, FaultyHost
from tests.hosts.load import Load, Site
from tests.hosts.machine import Machine
from tests.hosts.operator import Operator
from tests.hosts.repository import Repository

SCENARIO = Path(os.environ.get("SLIPWAY_LAB_STATE", "none")).name
#: The first change, the switch, and what comes after the proof; on other hosts the switch alone.
FEW = ["environment", "switch", "drain"] if SCENARIO == "debian-12" else ["switch"]
STEPS = RELEASE_STEPS if os.environ.get("SLIPWAY_FAULTS") == "all" else FEW
every_step = pytest.mark.parametrize("step", STEPS)


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


def serves(machine: Machine, client: httpx.Client, seconds: float = 30.0) -> str:
    """The release that answers from outside, waited for."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = client.get("/health")
            if answer.status_code == 200:
                return str(answer.json()["release"])
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "nothing answers"
        time.sleep(0.2)


def ended(machine: Machine) -> None:
    """Waits for the end of the operation, and of what clears up after it."""
    unit = f"slipway-{machine.app}-release.service"
    machine.wait_for(
        f"systemctl show --value -p ActiveState {unit} | grep -qE 'inactive|failed'", 90
    )


def converges(host: FaultyHost, client: httpx.Client, candidate: Candidate) -> None:
    """The next run makes the candidate live, whatever the last one left behind."""
    result = host.release(candidate)
    text = result.stdout + result.stderr
    assert result.returncode == 0 or "already" in text, text
    assert serves(host.machine, client) == candidate.version
    assert host.machine.release() == candidate.version
    assert host.machine.run("systemctl --failed --plain --no-legend").stdout == ""


@every_step
def test_the_host_loses_its_power(
    host: FaultyHost, client: httpx.Client, version: Iterator[str], step: str
) -> None:
    candidate = host.bring(next(version))
    before = host.machine.release()
    with host.held(candidate, step):
        host.power_cut()
    assert serves(host.machine, client) in {before, candidate.version}
    assert host.machine.release() in {before, candidate.version}
    converges(host, client, candidate)


@every_step
async def test_the_operation_is_killed(
    host: FaultyHost, client: httpx.Client, version: Iterator[str], token: str, step: str
) -> None:
    candidate = host.bring(next(version))
    machine = host.machine
    site = Site(machine.site, machine.address, machine.context)
    async with Load(site, token, connections=4) as load:
        with host.held(candidate, step):
            unit = f"slipway-{machine.app}-release.service"
            machine.run(f"kill -KILL $(systemctl show --value -p MainPID {unit})")
            ended(machine)
    assert load.report.failures == []
    converges(host, client, candidate)


@every_step
def test_the_controller_is_lost(
    host: FaultyHost, client: httpx.Client, version: Iterator[str], step: str
) -> None:
    candidate = host.bring(next(version))
    with host.held(candidate, step) as process:
        process.kill()
        process.wait()
    # Nobody asks any more: the host finishes by itself.
    ended(host.machine)
    assert serves(host.machine, client) == candidate.version
    converges(host, client, candidate)


def test_a_second_release_at_once_is_refused_and_names_the_first(
    host: FaultyHost, version: Iterator[str]
) -> None:
    first, second = host.bring(next(version)), host.bring(next(version))
    with host.held(first, "ready"):
        refused = host.release(second)
    assert refused.returncode == 3
    text = refused.stdout + refused.stderr
    assert f"release {first.version}" in text
    assert "since" in text
    host.machine.wait_for(f"test $(basename $(readlink /srv/harbour/current)) = {first.version}")
    ended(host.machine)


NEVER_READY = """
@application.get("/health/ready")
async def never() -> JSONResponse:
    return JSONResponse({"status": "not today"}, 503)
"""
ALWAYS_WRONG = """
@application.middleware("http")
async def wrong(request, call_next):
    return JSONResponse({"error": "the keel is broken"}, 500)
"""
WRONG_BEHIND_NGINX = """
@application.middleware("http")
async def wrong(request, call_next):
    if "x-request-id" in request.headers:
        return JSONResponse({"error": "the keel is broken"}, 500)
    return await call_next(request)
"""


def application(source: str, hurt: str) -> str:
    """The service's main module, with something wrong in what it makes."""
    body = "\n".join(f"    {line}" if line else "" for line in hurt.strip().splitlines())
    return source + (
        "\n\nfrom fastapi.responses import JSONResponse\n\n_well = create_app\n\n\n"
        "def create_app(settings=None):\n    application = _well(settings)\n"
        f"{body}\n"
        "    application.router.routes.insert(0, application.router.routes.pop())\n"
        "    return application\n"
    )


@pytest.mark.parametrize(
    ("hurt", "reason"),
    [
        (NEVER_READY, "/health/ready"),
        (ALWAYS_WRONG, "500"),
        (WRONG_BEHIND_NGINX, "does not show"),
    ],
    ids=["never ready", "answers 500", "fails behind Nginx"],
)
async def test_a_release_that_cannot_serve_takes_no_traffic_for_long(
    host: FaultyHost,
    repository: Repository,
    version: Iterator[str],
    token: str,
    hurt: str,
    reason: str,
) -> None:
    good = repository.read("app/main.py")
    before = host.machine.release()
    candidate = host.bring(next(version), {"app/main.py": application(good, hurt)})
    (repository.path / "app/main.py").write_text(good)
    repository.git("commit", "--quiet", "--all", "-m", "Mend it")
    site = Site(host.machine.site, host.machine.address, host.machine.context)
    async with Load(site, token, connections=4) as load:
        result = host.release(candidate)
    assert result.returncode == 1
    assert reason in result.stdout + result.stderr
    assert host.machine.release() == before
    if hurt != WRONG_BEHIND_NGINX:
        assert load.report.failures == []


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
