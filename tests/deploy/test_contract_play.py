"""The play that contracts the schema, on hosts that are folders behind a stand-in for ssh."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.test_artifact import Workshop
from tests.deploy.test_artifact_plays import Fleet

# What the role `release` installs, as far as the play sees it; the hosts are told apart by a file.
SLIPWAY = """#!/usr/bin/python3
import json, pathlib, sys
state = pathlib.Path("/var/lib/slipway/quay")
known = json.loads((state / "known").read_text())
arguments = sys.argv[2:]
if arguments[0] == "status":
    print(json.dumps({"current": known["live"], "schema": {"pending": known["pending"]}}))
elif arguments == ["contract", "--check"]:
    if known["blocked"]:
        sys.exit("v1.0.0, which a rollback returns to, needs the shape before")
    print("would contract", *known["pending"])
else:
    with (state / "asked").open("a") as log:
        print(*arguments, file=log)
    if known["fails"]:
        print("    | lock timeout")
        print("The contraction of v1.2.0 failed.")
        sys.exit(1)
    (state / "known").write_text(json.dumps({**known, "pending": []}))
    print("revision 0003 of v1.2.0 contracted: done after 0.1 s")
"""
KNOWN: dict[str, object] = {
    "live": "v1.2.0",
    "pending": ["0003"],
    "blocked": False,
    "fails": False,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    trial = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    if shutil.which("unshare") is None or subprocess.run(trial, check=False).returncode:
        pytest.skip("this machine lets nobody make name spaces")
    return Fleet(Workshop(tmp_path_factory.mktemp("contract")))


@pytest.fixture
def fleet(made: Fleet) -> Fleet:
    for host in made.hosts:
        (made.folder / host / "sbin/slipway").write_text(SLIPWAY)
        (made.state(host) / "asked").unlink(missing_ok=True)
        tell(made, host)
    return made


def known(fleet: Fleet, host: str) -> Path:
    return fleet.state(host) / "known"


def tell(fleet: Fleet, host: str, **changes: object) -> None:
    known(fleet, host).write_text(json.dumps({**KNOWN, **changes}))


def test_every_host_contracts_once(fleet: Fleet) -> None:
    status, output = fleet.play("contract")
    assert status == 0, output
    assert output.count("revision 0003 of v1.2.0 contracted") == 2
    for host in fleet.hosts:
        (asked,) = fleet.asked(host)
        assert asked.startswith("contract --by=")
    again, output = fleet.play("contract")
    assert again == 0, output
    assert "changed=0" in output
    assert "changed=1" not in output
    assert [len(fleet.asked(host)) for host in fleet.hosts] == [1, 1]


def test_a_check_tells_and_changes_nothing(fleet: Fleet) -> None:
    status, output = fleet.play("contract", "--check")
    assert status == 0, output
    assert "web1: would contract 0003" in output
    assert "web2: would contract 0003" in output
    assert fleet.asked("web1") == fleet.asked("web2") == []


@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_one_host_that_needs_the_old_shape_forbids_it_to_all(
    fleet: Fleet, arguments: list[str]
) -> None:
    tell(fleet, "web2", blocked=True)
    status, output = fleet.play("contract", *arguments)
    assert status != 0
    assert "web2: v1.0.0, which a rollback returns to, needs the shape before" in output
    assert fleet.asked("web1") == fleet.asked("web2") == []


def test_hosts_that_serve_different_releases_are_refused(fleet: Fleet) -> None:
    tell(fleet, "web2", live="v1.1.0", pending=[])
    status, output = fleet.play("contract")
    assert status != 0
    assert "The hosts serve different releases" in output
    assert "'web2': 'v1.1.0'" in output
    assert fleet.asked("web1") == fleet.asked("web2") == []


def test_a_host_that_is_away_is_refused(fleet: Fleet) -> None:
    (fleet.folder / "web2").rename(fleet.folder / "away")
    try:
        status, output = fleet.play("contract", "-e", "release_skip_unreachable=true")
    finally:
        (fleet.folder / "away").rename(fleet.folder / "web2")
    assert status != 0
    assert "web2 cannot be reached, and nobody knows what it needs" in output
    assert fleet.asked("web1") == []


def test_a_contraction_that_fails_ends_it_with_its_last_lines(fleet: Fleet) -> None:
    tell(fleet, "web1", fails=True)
    status, output = fleet.play("contract")
    assert status != 0
    assert "web1 did not contract:" in output
    assert "| lock timeout" in output
    assert fleet.asked("web2") == []
