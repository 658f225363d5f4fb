"""Releases and rollbacks as an operator sees them, on a host in a folder."""

import json

import pytest

from tests.release.world import World


def test_the_first_release(bare: World) -> None:
    outcome = bare.release("v1.0.0")
    assert outcome.status == 0, outcome.text
    assert "v1.0.0 is live: traffic after" in outcome.text
    assert bare.live() == bare.current() == "v1.0.0"
    assert (bare.folder / "ran").read_text() == "preflight v1.0.0\nmigrate v1.0.0\n"
    assert bare.verdict("v1.0.0") == "good"


def test_a_second_release_stops_the_first(world: World) -> None:
    outcome = world.release("v1.1.0")
    assert outcome.status == 0, outcome.text
    assert world.live() == "v1.1.0"
    assert world.running() == {"v1.1.0"}
    assert not list((world.folder / "units").glob("slipway-*"))
    assert not list((world.folder / "lock").glob("*.result"))


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"crash": "the keel is broken"}, "the keel is broken"),
        ({"never_ready": True}, "not ready after 0.5 s"),
        ({"health": 500}, "did not answer /health right"),
        ({"ready": 503}, "did not answer /health/ready right: status 503"),
        ({"says": "v9.0.0"}, "says that it is v9.0.0"),
        ({"preflight": "fail"}, "The preflight of v1.1.0 failed (exit-code)"),
        ({"migrate": "fail"}, "The migration of v1.1.0 failed (exit-code)"),
        ({"no_environment": True}, "hash mismatch for quay"),
    ],
)
def test_a_bad_release_never_takes_traffic(
    world: World, behaviour: dict[str, object], reason: str
) -> None:
    if "never_ready" in behaviour:
        world.change(ready_seconds=0.5)
    if "ready" in behaviour:
        world.change(ready_seconds=2.0)
    outcome = world.operate("release", "v1.1.0", f"--sha256={world.add('v1.1.0', **behaviour)}")
    assert outcome.status == 1
    assert reason in outcome.text
    assert "  switch" not in outcome.text
    assert world.live() == world.current() == "v1.0.0"
    assert world.running() == {"v1.0.0"}
    assert world.verdict("v1.1.0") == "failed"
    assert not (world.settings.state / "operation.json").exists()


def test_what_the_preflight_warns_of_is_told(world: World) -> None:
    says = "Looking.\nWarning: The cache does not answer; the service works without.\n"
    outcome = world.release("v1.1.0", preflight_says=says)
    assert outcome.status == 0, outcome.text
    assert "  preflight: Warning: The cache does not answer; the service works" in outcome.text
    assert "passed with warnings" in outcome.text
    assert "Looking." not in outcome.text
    assert "Warning" not in world.release("v1.2.0", preflight_says="Looking.\n").text


def test_a_failing_smoke_test_returns_the_traffic(world: World) -> None:
    outcome = world.release("v1.1.0", behind_nginx=500)
    assert outcome.status == 1
    assert "does not show v1.1.0: status 500" in outcome.text
    assert world.live() == world.current() == "v1.0.0"
    assert world.running() == {"v1.0.0"}


def test_a_failing_first_release_leaves_nothing_live(bare: World) -> None:
    bare.nginx.broken = True
    outcome = bare.release("v1.0.0")
    assert outcome.status == 1
    assert bare.current() is None
    assert bare.running() == set()


def test_a_failed_release_may_be_tried_again(world: World) -> None:
    world.nginx.broken = True
    checksum = world.add("v1.1.0")
    assert world.operate("release", "v1.1.0", f"--sha256={checksum}").status == 1
    world.nginx.broken = False
    again = world.operate("release", "v1.1.0", f"--sha256={checksum}")
    assert again.status == 0, again.text
    assert "there already" in again.text
    assert world.verdict("v1.1.0") == "good"


def test_what_cannot_be_right_is_refused(world: World) -> None:
    before = world.run("status").text
    older = world.add("v0.9.0")
    for arguments, reason in (
        (["v1.0.0", "--sha256=0"], "already live"),
        (["v0.9.0", f"--sha256={older}"], "older than v1.0.0"),
        (["v2.0.0", "--sha256=0"], "There is no artifact"),
        (["v0.9.0", "--allow-downgrade", "--sha256=0"], "has the checksum"),
        (["../v2", "--sha256=0"], "is not a version"),
    ):
        outcome = world.operate("release", *arguments)
        assert outcome.status == 2, outcome.text
        assert reason in outcome.text
    rollback = world.operate("rollback")
    assert rollback.status == 2
    assert "no earlier good release" in rollback.text
    assert world.run("status").text == before
    assert world.live() == "v1.0.0"


def test_another_artifact_under_a_good_version_is_refused(world: World) -> None:
    assert world.operate("release", "v1.1.0", f"--sha256={world.add('v1.1.0')}").status == 0
    other = world.add("v1.0.0", changed=True)
    outcome = world.operate("release", "v1.0.0", f"--sha256={other}", "--allow-downgrade")
    assert outcome.status == 2
    assert "give the change a new version" in outcome.text


def test_rollback_goes_to_the_last_good_release(world: World) -> None:
    assert world.release("v1.1.0").status == 0
    assert world.release("v1.2.0", crash="no").status == 1
    failed = world.operate("rollback", "v1.2.0")
    assert failed.status == 2
    assert "was never good" in failed.text
    outcome = world.run("rollback", "--by=Ada")
    assert outcome.status == 0, outcome.text
    assert world.live() == "v1.0.0"
    assert world.running() == {"v1.0.0"}
    assert world.verdict("v1.1.0") == "withdrawn"
    assert world.operate("rollback").status == 2
    assert world.operate("rollback", "v1.1.0").status == 0
    history = json.loads(world.run("history", "--json").text)
    assert [entry["result"] for entry in history] == ["good", "good", "failed", "good", "good"]
    assert history[3]["who"] == "Ada"
    assert "rollback v1.1.0 → v1.0.0" in world.run("history").text


def test_only_the_wanted_number_stays_installed(world: World) -> None:
    for version in ("v1.1.0", "v1.2.0", "v1.3.0"):
        outcome = world.operate("release", version, f"--sha256={world.add(version)}")
        assert outcome.status == 0, outcome.text
    assert {path.name for path in world.settings.releases.iterdir()} == {
        "v1.1.0",
        "v1.2.0",
        "v1.3.0",
    }
    assert world.verdict("v1.0.0") is None
    assert [path.name for path in (world.settings.state / "incoming").iterdir()] == [
        "quay-v1.3.0.tar"
    ]


def test_room_is_made_by_a_verb(world: World) -> None:
    for version in ("v1.1.0", "v1.2.0"):
        outcome = world.operate("release", version, f"--sha256={world.add(version)}")
        assert outcome.status == 0, outcome.text
    world.change(free_megabytes=10**9)
    next_one = world.add("v1.3.0")
    refused = world.operate("release", "v1.3.0", f"--sha256={next_one}")
    assert refused.status == 2
    assert "MB, for example with" in refused.text
    assert world.run("history").text.count("\n") == 3
    outcome = world.run("prune", "--keep=0", "--by=Ada")
    assert outcome.text == "Removed v1.0.0; v1.1.0, v1.2.0 stay.\n"
    assert {path.name for path in world.settings.releases.iterdir()} == {"v1.1.0", "v1.2.0"}
    assert world.live() == "v1.2.0"
    world.change(free_megabytes=0)
    assert world.operate("release", "v1.3.0", f"--sha256={next_one}").status == 0


def test_an_incomplete_release_is_no_way_back(world: World) -> None:
    outcome = world.operate("release", "v1.1.0", f"--sha256={world.add('v1.1.0')}")
    assert outcome.status == 0, outcome.text
    path = world.settings.state / "releases/v1.0.0.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, "stage": "incomplete"}))
    named = world.operate("rollback", "v1.0.0")
    assert named.status == 2
    assert "v1.0.0 is not installed here" in named.text
    assert world.operate("rollback").status == 2
    path.write_text(json.dumps(known))
    world.settings.release("v1.0.0").rename(world.folder / "gone")
    gone = world.operate("rollback", "v1.0.0")
    assert gone.status == 2
    assert "is gone: release v1.0.0 again" in gone.text
    assert world.operate("rollback").status == 2
    assert world.live() == "v1.1.0"


def test_a_way_back_that_fails_is_left_again(world: World) -> None:
    assert world.operate("release", "v1.1.0", f"--sha256={world.add('v1.1.0')}").status == 0
    (world.settings.release("v1.0.0") / "behaviour.json").write_text('{"crash": "rusty"}')
    outcome = world.operate("rollback")
    assert outcome.status == 1
    assert "rusty" in outcome.text
    assert world.live() == world.current() == "v1.1.0"
    assert world.verdict("v1.1.0") == "good"
    assert "rusty" not in world.run("status").text
    assert "v1.0.0 crashed" in json.loads(world.run("history", "--json").text)[-1]["reason"]


def test_status_for_programs(world: World) -> None:
    values = json.loads(world.run("--app=quay", "status", "--json").text)
    assert values["app"] == "quay"
    assert values["current"] == "v1.0.0"
    assert values["operation"] is None
    assert values["releases"][0]["running"] is True
    assert values["releases"][0]["verdict"] == "good"


def test_the_lines_of_one_request(world: World) -> None:
    lines = {
        "service": {"__REALTIME_TIMESTAMP": "2000000", "SYSLOG_IDENTIFIER": "quay", "MESSAGE": "b"},
        "nginx": {"__REALTIME_TIMESTAMP": "1000000", "SYSLOG_IDENTIFIER": "nginx", "MESSAGE": [97]},
    }
    for name, fields in lines.items():
        (world.folder / f"said/{name}.json").write_text(json.dumps(fields) + "\n")
    found = world.run("request", "abcdef-123")
    assert [line.split("  ")[1:] for line in found.text.splitlines()] == [
        ["nginx", "a"],
        ["quay", "b"],
    ]
    assert world.run("request", "../x; y").status == 2
