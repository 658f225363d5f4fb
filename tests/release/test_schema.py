"""Expand and contract as an operator sees them: restore points, and what cannot come back."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.release.world import Outcome, World

RUNBOOK = Path(__file__).parents[2] / "docs/runbook.md"
EXPANDED = [{"id": "0001", "phase": "expand"}, {"id": "0002", "phase": "expand"}]
CONTRACTED = [*EXPANDED, {"id": "0003", "phase": "contract"}]


def release(
    world: World, version: str, revisions: object = EXPANDED, **behaviour: object
) -> Outcome:
    checksum = world.add(version, revisions=revisions, **behaviour)
    return world.operate("release", version, f"--sha256={checksum}")


def released(world: World, *versions: str, revisions: object = EXPANDED) -> None:
    for version in versions:
        outcome = release(world, version, revisions)
        assert outcome.status == 0, outcome.text


def ran(world: World) -> list[str]:
    path = world.folder / "ran"
    return path.read_text().splitlines() if path.exists() else []


def schema(world: World) -> dict[str, object]:
    values: dict[str, object] = json.loads(world.run("status", "--json").text)["schema"]
    return values


def points(world: World) -> list[Path]:
    return sorted(world.settings.restore_points.glob("*.dump"))


@pytest.fixture
def ready(world: World) -> World:
    """A host whose live release and whose way back both have a revision that waits."""
    released(world, "v1.1.0")
    released(world, "v1.2.0", "v1.3.0", revisions=CONTRACTED)
    world.change(has_restore_point=True)
    (world.folder / "ran").unlink()
    return world


def test_the_database_is_saved_before_new_revisions_only(world: World) -> None:
    world.change(has_restore_point=True)
    released(world, "v1.1.0")
    assert ran(world)[-4:] == [
        "restore-point size",
        "preflight v1.1.0",
        "restore-point v1.1.0",
        "migrate v1.1.0",
    ]
    (point,) = points(world)
    entry = json.loads(world.run("history", "--json").text)[-1]
    assert entry["restore_point"] == str(point)
    assert f"restore point {point}" in world.run("history").text
    released(world, "v1.2.0")
    assert ran(world)[-2:] == ["preflight v1.2.0", "migrate v1.2.0"]
    assert points(world) == [point]
    released(world, "v1.3.0", revisions=[*EXPANDED, {"id": "0004", "phase": "expand"}])
    assert "restore-point v1.3.0" in ran(world)
    assert len(points(world)) == 2


def test_where_nobody_knows_the_revisions_the_database_is_saved(world: World) -> None:
    world.change(has_restore_point=True)
    released(world, "v1.1.0", revisions=[])
    released(world, "v1.2.0", revisions=[])
    assert [path.name.split("-")[0] for path in points(world)] == ["v1.1.0", "v1.2.0"]


def test_after_a_dump_was_restored_its_lost_revisions_are_saved_again(world: World) -> None:
    """What the runbook says to run makes the next release save the database."""
    world.change(has_restore_point=True)
    released(world, "v1.1.0")
    (line,) = [
        line for line in RUNBOOK.read_text().splitlines() if "jq " in line and "schema" in line
    ]
    assert line.startswith("sudo sh -c '")
    command = line.removeprefix("sudo ").replace(
        "/var/lib/slipway/harbour", str(world.settings.state)
    )
    contracted = schema(world)["contracted"]
    subprocess.run(command, shell=True, check=True)
    assert schema(world)["contracted"] == contracted
    released(world, "v1.2.0", "v1.3.0")
    assert [path.name.split("-")[0] for path in points(world)] == ["v1.1.0", "v1.2.0"]


def test_what_waits_behind_a_contraction_counts_as_new(world: World) -> None:
    world.change(has_restore_point=True)
    behind = [*CONTRACTED, {"id": "0004", "phase": "expand"}]
    released(world, "v1.1.0", "v1.2.0", revisions=behind)
    assert len(points(world)) == 2


def test_only_the_newest_restore_points_stay(world: World) -> None:
    world.change(has_restore_point=True, keep_restore_points=2)
    released(world, "v1.1.0", "v1.2.0", "v1.3.0", revisions=[])
    assert [path.name.split("-")[0] for path in points(world)] == ["v1.2.0", "v1.3.0"]


def test_a_migration_that_fails_names_its_restore_point(world: World) -> None:
    world.change(has_restore_point=True)
    said = world.folder / "said/quay-migrate@v1.1.0.service"
    said.write_text("canceling statement due to lock timeout\n")
    outcome = release(world, "v1.1.0", migrate="fail")
    assert outcome.status == 1
    assert "    | canceling statement due to lock timeout" in outcome.text
    (point,) = points(world)
    assert f"The database as it was before is in {point}: docs/runbook.md" in outcome.text
    assert "  switch" not in outcome.text
    assert world.live() == world.current() == "v1.0.0"
    assert world.running() == {"v1.0.0"}
    # Nothing was migrated, so the next attempt saves it again.
    assert release(world, "v1.1.0").status == 0
    assert len(points(world)) == 2


def test_a_database_that_cannot_be_saved_is_not_migrated(world: World) -> None:
    world.change(has_restore_point=True)
    (world.folder / "database.json").write_text('{"broken": true}')
    said = world.folder / "said/quay-restore-point@size.service"
    said.write_text("pg_dump is missing\n")
    outcome = release(world, "v1.1.0")
    assert outcome.status == 2
    assert "pg_dump is missing" in outcome.text
    assert not any(line.startswith("migrate v1.1.0") for line in ran(world))
    assert world.verdict("v1.1.0") is None


def test_a_database_too_large_for_the_disk_is_refused_before_anything(ready: World) -> None:
    (ready.folder / "database.json").write_text(json.dumps({"bytes": 10**18}))
    revisions = [*CONTRACTED, {"id": "0004", "phase": "expand"}]
    for outcome in (release(ready, "v1.4.0", revisions), ready.operate("contract")):
        assert outcome.status == 2, outcome.text
        assert "1000000000000 MB are for the restore point" in outcome.text
        assert "MB, for example with" in outcome.text
    assert not points(ready)
    assert not ready.settings.release("v1.4.0").exists()
    # What brings nothing new needs no room either.
    released(ready, "v1.5.0", revisions=CONTRACTED)


def test_contract(ready: World) -> None:
    assert schema(ready) == {"contracted": [], "begun": [], "pending": ["0003"], "floor": None}
    check = ready.run("contract", "--check")
    assert check.status == 0
    assert "v1.3.0: would contract revision 0003. No return to v1.1.0 is" in check.text
    assert ran(ready) == []
    outcome = ready.run("contract", "--by=Ada")
    assert outcome.status == 0, outcome.text
    assert "revision 0003 of v1.3.0 contracted: done after" in outcome.text
    assert ran(ready) == ["restore-point size", "restore-point v1.3.0", "contract v1.3.0"]
    assert schema(ready) == {
        "contracted": ["0003"],
        "begun": [],
        "pending": [],
        "floor": "v1.2.0",
    }
    status = ready.run("status").text
    assert "Contracted: 0003; the oldest that can come back is v1.2.0" in status
    assert "contract v1.3.0 (0003)  good" in ready.run("history").text
    assert ready.live() == "v1.3.0"
    assert ready.running() == {"v1.3.0"}
    again = ready.run("contract")
    assert (again.status, again.text) == (
        0,
        "v1.3.0 has no revision that waits to be contracted.\n",
    )
    assert len(ran(ready)) == 3


def test_what_needs_the_old_shape_cannot_come_back(ready: World) -> None:
    before = ready.add("v1.1.1", revisions=EXPANDED)
    assert ready.operate("contract").status == 0
    arguments = ["release", "v1.1.1", f"--sha256={before}", "--allow-downgrade"]
    for outcome in (ready.operate("rollback", "v1.1.0"), ready.operate(*arguments)):
        assert outcome.status == 2, outcome.text
        assert "cannot come back: revision 0003 has been contracted" in outcome.text
        assert "The oldest release that can: v1.2.0." in outcome.text
    assert ready.live() == "v1.3.0"
    assert json.loads(ready.run("history", "--json").text)[-1]["verb"] == "contract"
    # Without a version it goes to the last good one that can, and passes over the others.
    assert ready.operate("rollback").status == 0
    assert ready.live() == "v1.2.0"
    third = ready.operate("rollback")
    assert third.status == 2
    assert "to return to (v1.1.0: contracted since): release a version instead" in third.text


def test_a_way_back_that_needs_the_old_shape_forbids_it(world: World) -> None:
    released(world, "v1.1.0")
    released(world, "v1.2.0", revisions=CONTRACTED)
    for arguments in (["contract"], ["contract", "--check"]):
        outcome = world.run(*arguments)
        assert outcome.status == 2
        assert "v1.1.0, which a rollback returns to, was built before revision 0003" in outcome.text
        assert "release once more" in outcome.text
    assert schema(world)["contracted"] == []
    released(world, "v1.3.0", revisions=CONTRACTED)
    assert world.run("contract").status == 0
    assert world.operate("rollback").status == 0


def test_a_running_release_that_needs_the_old_shape_forbids_it(ready: World) -> None:
    (ready.folder / "units/quay@v1.1.0.service.json").write_text('{"active": "active"}')
    outcome = ready.run("contract")
    assert outcome.status == 2
    assert "v1.1.0 still runs and needs the shape before revision 0003 of v1.3.0" in outcome.text
    assert "systemctl stop quay@v1.1.0.service quay@v1.1.0.socket" in outcome.text
    assert ran(ready) == []


def test_a_service_without_the_command_is_told(ready: World) -> None:
    ready.change(has_contract=False)
    outcome = ready.run("contract")
    assert outcome.status == 2
    assert "set app_contract_command" in outcome.text


def test_a_contraction_that_fails_leaves_what_serves_alone(ready: World) -> None:
    behaviour = ready.settings.release("v1.3.0") / "behaviour.json"
    behaviour.write_text('{"contract": "fail"}')
    (ready.folder / "said/quay-contract@v1.3.0.service").write_text("lock timeout\n")
    outcome = ready.run("contract")
    assert outcome.status == 1
    assert "    | lock timeout" in outcome.text
    assert "The contraction of v1.3.0 failed (exit-code)" in outcome.text
    assert str(points(ready)[0]) in outcome.text
    assert ready.live() == ready.current() == "v1.3.0"
    assert ready.verdict("v1.3.0") == "good"
    # Part of it may have been done, so nobody returns behind it.
    assert schema(ready)["begun"] == ["0003"]
    assert ready.operate("rollback", "v1.1.0").status == 2
    assert "`slipway contract`" in ready.run("status").text
    assert json.loads(ready.run("history", "--json").text)[-1]["result"] == "failed"
    behaviour.write_text("{}")
    assert ready.run("contract").status == 0
    assert schema(ready)["contracted"] == ["0003"]
    assert schema(ready)["begun"] == []


@pytest.mark.parametrize("step", ["verify", "room", "restore point", "contract", "record"])
def test_a_contraction_that_is_killed_is_run_again(ready: World, step: str) -> None:
    outcome = ready.operate("contract", FAULT=step)
    assert outcome.status == -signal.SIGKILL
    assert ready.live() == "v1.3.0"
    ready.power_cut()
    assert ready.run("boot").status == 0
    ready.wait_for("run/v1.3.0.ready")
    assert ready.live() == "v1.3.0"
    assert ready.running() == {"v1.3.0"}
    assert not (ready.settings.state / "operation.json").exists()
    again = ready.run("contract")
    assert again.status == 0, again.text
    assert schema(ready)["contracted"] == ["0003"]
    assert ready.operate("rollback", "v1.1.0").status == 2


def test_a_contraction_that_is_stopped_stops_its_unit_alone(ready: World) -> None:
    with ready.popen("_run", "contract", "--operation=1", PAUSE="restore point") as process:
        ready.wait_for("paused")
        status = json.loads(ready.run("status", "--json").text)
        assert status["operation"]["verb"] == "contract"
        assert ready.run("rollback").status == 3
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 4
    assert ready.live() == "v1.3.0"
    assert ready.running() == {"v1.3.0"}
    assert schema(ready)["begun"] == []


def test_a_later_release_may_have_joined_its_revisions(ready: World) -> None:
    assert ready.run("contract").status == 0
    released(ready, "v2.0.0", revisions=[{"id": "0010", "phase": "expand"}])
    assert ready.operate("rollback").status == 0


def test_a_phase_that_this_host_does_not_know_is_refused(world: World) -> None:
    outcome = release(world, "v1.1.0", [{"id": "0001", "phase": "shrink"}])
    assert outcome.status == 2
    assert "revision '0001' of phase 'shrink'" in outcome.text


def test_what_is_known_of_the_schema_is_not_guessed(ready: World) -> None:
    (ready.settings.state / "schema.json").write_text("[]")
    outcome = ready.operate("rollback")
    assert outcome.status == 2
    assert "schema.json cannot be read" in outcome.text
