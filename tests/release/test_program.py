"""A program of the live release runs as the service does, and its end is ours."""

import json
import subprocess
from pathlib import Path

from tests.release.world import PYTHON, World

RUN_CONF = """# Written by a role.

User=quay
Environment=APP_RELEASE=%i
WorkingDirectory=/srv/quay/releases/%i
SystemCallFilter=~@privileged @resources
CapabilityBoundingSet=
"""


def properties(world: World) -> list[str]:
    """What systemd-run was told."""
    options = json.loads((world.folder / "ran.json").read_text())
    return [option.removeprefix("--property=") for option in options if "--property=" in option]


def prepare(world: World) -> None:
    (world.folder / "etc/quay").mkdir(exist_ok=True)
    (world.folder / "etc/quay/run.conf").write_text(RUN_CONF)


def test_it_runs_with_what_the_role_wrote(world: World) -> None:
    prepare(world)
    program = "import os, sys; print(sys.argv[1:], os.environ['SLIPWAY_OPERATOR'])"
    outcome = world.run("run", "python", "-c", program, "--by", "$HOME %i", SUDO_USER="ada; x=1")
    assert outcome.status == 0, outcome.text
    assert outcome.text == "['--by', '$HOME %i'] ada x1\n"
    assert properties(world) == [
        "User=quay",
        "Environment=APP_RELEASE=v1.0.0",
        "WorkingDirectory=/srv/quay/releases/v1.0.0",
        "SystemCallFilter=~@privileged @resources",
        "CapabilityBoundingSet=",
    ]


def test_its_exit_status_is_passed_on(world: World) -> None:
    prepare(world)
    assert world.run("run", "python", "-c", "raise SystemExit(23)").status == 23


def test_it_reads_what_the_caller_gives_it(world: World) -> None:
    prepare(world)
    program = "import sys; print(sys.stdin.read()[::-1])"
    answer = subprocess.run(
        [PYTHON, "-I", str(Path(__file__).with_name("slipway.py")), "run", "python", "-c", program],
        env=world.environment,
        input="secret",
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "terces\n"


def test_the_console_gets_every_word(world: World) -> None:
    prepare(world)
    world.change(console_command="python -c 'import sys; print(sys.argv[1:])'")
    outcome = world.run("console", "--help", "create-admin", "--app=x", "-")
    assert outcome.status == 0, outcome.text
    assert outcome.text == "['--help', 'create-admin', '--app=x', '-']\n"


def test_a_service_without_a_console_says_so(world: World) -> None:
    prepare(world)
    outcome = world.run("console", "create-admin")
    assert outcome.status == 2
    assert "quay has no console: set app_console_command in the inventory" in outcome.text


def test_without_a_release_it_is_refused(bare: World) -> None:
    prepare(bare)
    outcome = bare.run("run", "python")
    assert outcome.status == 2
    assert outcome.text == "No release of quay is live here: release one first.\n"


def test_what_is_no_program_of_the_release_is_refused(world: World) -> None:
    prepare(world)
    for name in ("alembic", "/bin/sh", "../../main.py", "..", ""):
        outcome = world.run("run", name)
        assert outcome.status == 2
        assert f"v1.0.0 has no program {name!r}: choose one of those in /" in outcome.text
    assert not (world.folder / "ran.json").exists()


def test_a_host_that_was_not_provisioned_for_it_says_so(world: World) -> None:
    outcome = world.run("run", "python")
    assert outcome.status == 2
    assert "etc/quay/run.conf is missing: run playbook.yml first." in outcome.text
