"""Measures releases on a lab host under load: ``make bench-releases``.

First on a quiet host: a release with unchanged dependencies, one with a changed dependency that no
cache has, and a rollback, each with the seconds of its phases and until the public gets the new
release.

Then ten releases and one rollback while 32 keep-alive connections send GET and POST as fast as
they are answered. Told are the seconds from the command to the switch and to the end, the requests,
those that failed, the longest answer, and the 99th percentile of the two seconds around the switch
as a multiple of that of the same load right before the release began.
"""

import asyncio
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable
from pathlib import Path

import httpx

from tests.hosts.lab import lab, status
from tests.hosts.load import Load, Site
from tests.hosts.machine import Machine
from tests.hosts.operator import Operator, Result
from tests.hosts.repository import ROOT, Repository
from tests.performance.telling import say

RELEASES = 10
CALM_SECONDS = 4.0
STATE = ROOT / ".lab/bench"
FIRST = "v0.0.1"
DEPENDENCY = "idna==3.10"
PASSWORD = "Capstan-and-4-anchors"


async def main() -> int:
    """Makes the host, measures, and takes the host down; failed requests make the status 1."""
    os.environ["SLIPWAY_LAB_STATE"] = str(STATE)
    lab("up")
    try:
        return await measure(found())
    finally:
        lab("down")
        shutil.rmtree(STATE, ignore_errors=True)


def found() -> Machine:
    """The host of the lab."""
    described = status()
    host = described["hosts"][0]
    return Machine(
        name=host["name"],
        address=host["address"],
        address6=host["address6"],
        ssh=tuple(host["ssh"]),
        ca=Path(described["ca_bundle"]),
        site=f"harbour.{described['domain']}",
        app="harbour",
    )


async def measure(machine: Machine) -> int:
    """Provisions the host, releases and rolls back under load; answers whether anything failed."""
    repository = Repository.clone(STATE / "release")
    settings = (ROOT / "tests/hosts/shared/settings.yml",)
    operator = Operator(ROOT / "inventories/lab", settings, repository)
    await must(operator.play("playbook.yml"))
    repository.tag(FIRST)
    await must(operator.release(FIRST))
    await quiet(machine, operator, repository)
    site, token = Site(machine.site, machine.address, machine.context), login(machine)
    say("           command   traffic      done  requests  failed  longest  p99: before  switch")
    requests = failed = 0
    ratios: list[float] = []
    for number in [*range(1, RELEASES + 1), None]:
        version = "rollback" if number is None else f"v0.1.{number}"
        if number is not None:
            repository.tag(version, {"RELEASE.txt": f"{version}\n"})
        async with Load(site, token, rate=None) as load:
            await asyncio.sleep(CALM_SECONDS)
            begin = time.monotonic()
            asked = operator.release(version) if number else operator.play("deploy/rollback.yml")
            text = await must(asked)
            seconds = time.monotonic() - begin
        report = load.report
        times = re.search(r"traffic after ([0-9.]+) s, done after ([0-9.]+) s", text)
        traffic, done = times.groups() if times else ("?", "?")
        before = report.percentile(0.99, until=begin)
        # The release that is new in this round is the one that answered first of all last.
        switched = max(report.first.values())
        around = report.percentile(0.99, switched - 0.5, switched + 1.5)
        ratios.append(around / before)
        say(
            f"{version:<9} {seconds:7.1f} s {traffic:>7} s {done:>7} s {report.requests:9} "
            f"{len(report.failures):7} {report.longest * 1000:5.0f} ms {before * 1000:8.0f} ms "
            f"{around / before:6.1f} times"
        )
        requests += report.requests
        failed += len(report.failures)
    say(
        f"together {requests} requests, {failed} failed; "
        f"p99 at the switch {statistics.median(ratios):.1f} times that before (median)"
    )
    return 1 if failed else 0


async def quiet(machine: Machine, operator: Operator, repository: Repository) -> None:
    """Measures releases and a rollback that nothing disturbs; tells their phases."""
    repository.tag("v0.0.2", {"RELEASE.txt": "v0.0.2\n"})
    changed = change_dependency(repository)
    repository.tag("v0.0.3", changed)
    for name, version, asked in (
        ("unchanged dependencies", "v0.0.2", operator.release("v0.0.2")),
        (f"{DEPENDENCY} changed", "v0.0.3", operator.release("v0.0.3")),
        ("rollback", "v0.0.2", operator.play("deploy/rollback.yml")),
    ):
        begin = time.monotonic()
        shown = asyncio.create_task(asyncio.to_thread(shows, machine, version))
        text = await must(asked)
        seconds, traffic = time.monotonic() - begin, await shown - begin
        say(f"{name}: traffic {traffic:.1f} s after the command, which took {seconds:.1f} s")
        for line in phases(text):
            say(f"    {line}")


def change_dependency(repository: Repository) -> dict[str, str]:
    """Locks another version of one dependency in the clone; answers the lock file."""
    command = ["uv", "lock", "--quiet", "--python", sys.executable, "--upgrade-package", DEPENDENCY]
    environment = {**os.environ, "UV_SYSTEM_CERTS": "true"}
    subprocess.run(command, cwd=repository.path, env=environment, check=True)
    return {"uv.lock": repository.read("uv.lock")}


def shows(machine: Machine, version: str) -> float:
    """Waits until the public gets a release; answers when, by the monotonic clock."""
    with httpx.Client(base_url=f"https://{machine.site}", verify=machine.context) as client:
        while client.get("/health").json()["release"] != version:
            time.sleep(0.05)
    return time.monotonic()


def phases(text: str) -> list[str]:
    """The lines in which the host tool tells its steps and their seconds."""
    lines = (re.sub(r"^\W*(?:- )?['\"]?", "", line) for line in text.splitlines())
    return [line.rstrip("'\"") for line in lines if re.match(r"\w[\w ]* +[0-9.]+ s\b", line)]


async def must(play: Awaitable[Result]) -> str:
    """Waits for a playbook; answers what it said, and ends everything when it failed."""
    result = await play
    if result.returncode:
        raise SystemExit(result.text)
    return result.text


def login(machine: Machine) -> str:
    """The access token of a user who has just registered."""
    with httpx.Client(base_url=f"https://{machine.site}", verify=machine.context) as client:
        user = {"username": "sailor", "email": "sailor@example.com", "password": PASSWORD}
        client.post("/api/v1/users/register", json=user).raise_for_status()
        form = {"username": "sailor", "password": PASSWORD}
        answer = client.post("/api/v1/auth/token", data=form).raise_for_status()
        return str(answer.json()["access_token"])


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
