"""What the runbook tells operators to type does what it says, on the hosts that the roles make."""

import fnmatch
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.rendering import ROOT

RUNBOOK = (ROOT / "docs/runbook.md").read_text()
#: Starts what is live, and is none of its units.
NOT_OF_A_RELEASE = {"harbour-boot.service"}
#: They end with the operation that they are part of.
OF_AN_OPERATION = re.compile(r"harbour-(preflight|migrate|contract|restore-point)@")


def block(heading: str) -> list[str]:
    """The lines of the first block of commands below a heading."""
    return RUNBOOK.split(f"## {heading}\n")[1].split("```")[1].strip().splitlines()


def units() -> set[str]:
    """The units of a release that go on by themselves, as the role names their templates."""
    text = (ROOT / "roles/app/vars/main.yml").read_text()
    said = re.findall(r"'((?:-[a-z-]+)?@[.]\w+|-boot[.]service)'", text)
    assert "@.service" in said
    harbour: dict[str, Any] = yaml.safe_load((ROOT / "inventories/shared/harbour.yml").read_text())
    assert "'/etc/systemd/system/' ~ app_name ~ '.' ~ name ~ '@.' ~ kind" in text
    processes = {
        f"harbour.{name}@.{kind}"
        for name in [*harbour["app_processes"], "nightly"]
        for kind in ("service", "timer")
    }
    names = {f"harbour{name}" for name in said} | processes
    return {
        name.replace("@.", "@v1.4.2.")
        for name in names - NOT_OF_A_RELEASE
        if not OF_AN_OPERATION.match(name)
    }


def test_a_restoration_stops_every_unit_of_the_release() -> None:
    (line,) = [line for line in block("Restore a dump") if "systemctl stop" in line]
    sudo, systemctl, stop, *patterns = shlex.split(line)
    assert (sudo, systemctl, stop) == ("sudo", "systemctl", "stop")
    missed = {
        unit
        for unit in units()
        if not any(fnmatch.fnmatchcase(unit, pattern) for pattern in patterns)
    }
    assert missed == set()
    assert {"harbour@v1.4.2.socket", "harbour.worker@v1.4.2.service"} <= units()


def test_the_files_are_back_before_anything_starts() -> None:
    lines = block("Restore a dump")
    (files,) = [number for number, line in enumerate(lines) if "files" in line]
    (boot,) = [number for number, line in enumerate(lines) if line == "sudo slipway boot"]
    (stop,) = [number for number, line in enumerate(lines) if "systemctl stop" in line]
    assert stop < files < boot
    about = " ".join(RUNBOOK.split("## Files of users\n")[1].split("```")[0].split())
    assert "before `slipway boot`" in about
    assert "before `maintenance off`" not in about


@pytest.mark.parametrize("program", ["curl", "jq", "rsync"])
def test_what_it_calls_on_a_host_is_installed_there(program: str) -> None:
    assert re.search(rf"(^|[ |'])(sudo )?{program} ", RUNBOOK, re.MULTILINE)
    defaults = yaml.safe_load((Path(ROOT) / "roles/base/defaults/main.yml").read_text())
    assert program in defaults["base_packages"]
