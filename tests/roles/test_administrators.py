"""Keys of administrators that would let nobody in are refused, with a sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.rendering import ROOT

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ada"


def refuse(folder: Path, **settings: Any) -> str:
    """What the role says of settings; '' when it takes them."""
    tasks = [
        task
        for task in yaml.safe_load((ROOT / "roles/base/tasks/main.yml").read_text())
        if "base_admin_keys" in str(task.get("ansible.builtin.assert", ""))
    ]
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROOT / "roles/base/defaults/main.yml")],
        "tasks": [*tasks, {"ansible.builtin.debug": {"msg": "taken"}}],
    }
    playbook = folder / "refuse.json"
    playbook.write_text(json.dumps([play]))
    program = Path(sys.executable).with_name("ansible-playbook")
    result = subprocess.run(
        [str(program), "-i", "localhost,", "-e", json.dumps(settings), str(playbook)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DISPLAY_OK_HOSTS": "true"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = " ".join((result.stdout + result.stderr).split())
    assert ("msg: taken" in said) is (result.returncode == 0), said
    return said if result.returncode else ""


def test_keys_without_their_user_are_refused(tmp_path: Path) -> None:
    said = refuse(tmp_path, base_admin_keys=[KEY])
    assert "localhost has base_admin_keys and no base_admin_user" in said
    assert "set base_admin_user to the name of the user to make" in said


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"base_admin_user": "operator"},
        {"base_admin_user": "operator", "base_admin_keys": [KEY]},
    ],
)
def test_both_or_neither_are_taken(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert refuse(tmp_path, **settings) == ""


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_who_is_told_to_give_keys_is_told_of_the_user(environment: str) -> None:
    path = ROOT / f"inventories/{environment}/group_vars/all/main.yml"
    assert {"base_admin_user", "base_admin_keys"} <= yaml.safe_load(path.read_text()).keys()
    for file in ("docs/releasing-by-push.md", "deploy/push/setup.py"):
        assert "base_admin_user" in (ROOT / file).read_text()
