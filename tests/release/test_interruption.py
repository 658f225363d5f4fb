"""Whatever ends an operation, and wherever, what served goes on and the next run converges."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from slipway_release.steps import STEPS
from tests.release.world import World, host

NAMES = [step.name for step in STEPS if "release" in step.verbs]
FINAL = {step.name for step in STEPS if step.final} | {"watch"}
SWITCHED = {*NAMES[NAMES.index("switch") :]}


def kill_after(world: World, step: str) -> str:
    checksum = world.add("v1.1.0")
    outcome = world.operate("release", "v1.1.0", f"--sha256={checksum}", FAULT=step)
    assert outcome.status == -signal.SIGKILL, outcome.text
    assert world.current() == ("v1.1.0" if step in SWITCHED else "v1.0.0")
    assert world.live() == world.current()
    return checksum


def run_again(world: World, step: str) -> None:
    checksum = kill_after(world, step)
    again = world.operate("release", "v1.1.0", f"--sha256={checksum}")
    if step in FINAL:
        assert again.status == 2, again.text
        assert "already live" in again.text
    else:
        assert again.status == 0, again.text
    assert world.live() == "v1.1.0"
    assert world.running() == {"v1.1.0"}
    assert world.verdict("v1.1.0") == "good"
    assert not (world.settings.state / "operation.json").exists()


def cut_the_power(world: World, step: str) -> None:
    kill_after(world, step)
    world.power_cut()
    boot = world.run("boot")
    assert boot.status == 0, boot.text
    world.wait_for(f"run/{world.current()}.ready")
    assert world.live() == ("v1.1.0" if step in FINAL else "v1.0.0")
    assert world.running() == {world.live()}
    assert world.verdict("v1.0.0") == "good"
    results = [e["result"] for e in json.loads(world.run("history", "--json").text)][1:]
    assert results == (["good"] if step in FINAL else [] if step in NAMES[:2] else ["failed"])


# The power cuts after which different things are on the disk.
CUTS = ["room", "unpack", "start", "switch", "watch", "drain", "record"]
STORIES = [
    *((run_again, step) for step in NAMES),
    *((cut_the_power, step) for step in CUTS),
]


@pytest.fixture(scope="module")
def told(place: Callable[[], Path], pattern: World) -> Iterator[list[Future[None]]]:
    """All stories, several at a time: each waits for processes most of its time."""

    def tell(story: Callable[[World, str], None], step: str) -> None:
        with host(place()) as world:
            world.adopt(pattern)
            story(world, step)

    with ThreadPoolExecutor(4) as pool:
        yield [pool.submit(tell, story, step) for story, step in STORIES]
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    "number", range(len(STORIES)), ids=[f"{step} {story.__name__}" for story, step in STORIES]
)
def test_killed_after_a_step(told: list[Future[None]], number: int) -> None:
    told[number].result()


def test_boot_without_a_release(bare: World) -> None:
    outcome = bare.run("boot")
    assert outcome.status == 0
    assert "no release yet" in outcome.text


@pytest.mark.parametrize("step", ["unpack", "start", "smoke"])
def test_sigterm_puts_back(world: World, step: str) -> None:
    checksum = world.add("v1.1.0")
    with world.popen(
        "_run", "release", "v1.1.0", f"--sha256={checksum}", "--operation=1", PAUSE=step
    ) as process:
        world.wait_for("paused")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 4
    assert world.live() == world.current() == "v1.0.0"
    assert world.running() == {"v1.0.0"}
    assert world.verdict("v1.1.0") in {None, ""}


def test_a_second_operation_is_told_who_is_at_work(world: World) -> None:
    checksum = world.add("v1.1.0")
    command = ["release", "v1.1.0", f"--sha256={checksum}"]
    with world.popen(*command, "--by=Ada", PAUSE="migrate") as first:
        world.wait_for("paused")
        for arguments in (["rollback"], command):
            second = world.run(*arguments)
            assert second.status == 3
            assert "Ada has been running `release v1.1.0`" in second.text
            assert "now at: migrate" in second.text
        status = json.loads(world.run("status", "--json").text)
        assert status["operation"]["step"] == "migrate"
        os.kill(operation_of(world), signal.SIGTERM)
        first.communicate(timeout=10)
    assert first.returncode == 4
    assert world.live() == "v1.0.0"


def test_the_operation_goes_on_without_its_command(world: World) -> None:
    checksum = world.add("v1.1.0", migrate_seconds=0.5)
    with world.popen("release", "v1.1.0", f"--sha256={checksum}") as command:
        world.wait_for("state/operation.json")
        command.kill()
    world.wait_for("state/releases/v1.1.0.json")
    world.wait_for("units/slipway-quay-release.service.json", there=False)
    assert world.live() == "v1.1.0"
    assert world.verdict("v1.1.0") == "good"


def test_a_killed_operation_is_told(world: World) -> None:
    checksum = world.add("v1.1.0")
    command = world.run("release", "v1.1.0", f"--sha256={checksum}", FAULT="ready")
    assert command.status == 1
    assert "The operation was killed" in command.text
    assert world.live() == "v1.0.0"
    assert world.run("_recover").status == 0
    assert world.running() == {"v1.0.0"}


def operation_of(world: World) -> int:
    """The process that holds the lock of the service."""
    inode = world.settings.lock.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            return int(fields[4])
    raise AssertionError("nobody holds the lock")
