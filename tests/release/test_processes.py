"""Workers and timers follow the web part of a release, forward and back."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.release.world import World, host


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with host(tmp_path) as made:
        made.change(workers=["mail"], timers=["cleanup"], watch_seconds=0.3)
        assert made.release("v1.0.0").status == 0
        yield made


def units(world: World) -> set[str]:
    """The workers and timers that run."""
    names = (path.name for path in (world.folder / "units").glob("quay.*"))
    return {name.removesuffix(".json") for name in names}


def of(version: str) -> set[str]:
    return {f"quay.mail@{version}.service", f"quay.cleanup@{version}.timer"}


def happened(world: World) -> list[str]:
    return [line for line in (world.folder / "ran").read_text().splitlines() if "quay." in line]


def test_they_start_after_the_switch_and_the_old_ones_end(world: World) -> None:
    assert units(world) == of("v1.0.0")
    (world.folder / "ran").unlink()
    assert world.release("v1.1.0").status == 0
    assert units(world) == of("v1.1.0")
    assert happened(world)[:4] == [
        "start quay.mail@v1.1.0.service",
        "stop quay.mail@v1.0.0.service",
        "stop quay.cleanup@v1.0.0.timer",
        "start quay.cleanup@v1.1.0.timer",
    ]


def test_a_rollback_takes_them_along(world: World) -> None:
    assert world.release("v1.1.0").status == 0
    assert world.run("rollback").status == 0
    assert units(world) == of("v1.0.0")


@pytest.mark.parametrize("behaviour", ["crash", "absent"])
def test_a_worker_that_does_not_stay_up_takes_the_release_back(
    world: World, behaviour: str
) -> None:
    outcome = world.release("v1.1.0", **{"quay.mail": behaviour})
    assert outcome.status == 1, outcome.text
    assert "quay.mail@v1.1.0.service" in outcome.text
    assert world.current() == "v1.0.0"
    assert units(world) == of("v1.0.0")
    assert world.verdict("v1.1.0") == "failed"


def test_a_job_that_runs_is_left_to_its_end_and_keeps_its_release(world: World) -> None:
    world.change(keep=2)
    job = world.folder / "units/quay.cleanup@v1.0.0.service.json"
    job.write_text('{"active": "activating", "sub": "start"}')
    for version in ("v1.1.0", "v1.2.0", "v1.3.0"):
        assert world.release(version).status == 0
    assert job.exists()
    assert world.settings.release("v1.0.0").is_dir()
    job.unlink()
    assert world.release("v1.4.0").status == 0
    assert not world.settings.release("v1.0.0").is_dir()


def test_those_that_the_settings_lost_are_stopped(world: World) -> None:
    world.change(workers=["post"], timers=[])
    assert world.run("boot").status == 0
    assert units(world) == {"quay.post@v1.0.0.service"}


def test_they_start_with_the_host(world: World) -> None:
    world.power_cut()
    assert units(world) == set()
    assert world.run("boot").status == 0
    assert units(world) == of("v1.0.0")


@pytest.mark.parametrize("step", ["processes", "watch", "drain"])
def test_they_are_right_after_the_operation_was_killed(world: World, step: str) -> None:
    killed = world.operate("release", "v1.1.0", f"--sha256={world.add('v1.1.0')}", FAULT=step)
    assert killed.status == -signal.SIGKILL, killed.text
    assert world.run("boot").status == 0
    live = "v1.0.0" if step == "processes" else "v1.1.0"
    assert world.current() == live
    assert units(world) == of(live)
