"""The passwords of roles are set with a package that a check does not install."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.roles.plays import ROOT, run_play

SETTINGS = {"postgresql_databases": [], "postgresql_passwords": {"quay": "a-secret-of-the-test"}}


@pytest.mark.parametrize(
    ("missing", "arguments", "asked"),
    [(True, ["--check"], False), (False, ["--check"], True), (True, [], True)],
    ids=["a check without the package", "a check with it", "a run"],
)
def test_they_are_set_as_soon_as_the_package_is_there(
    tmp_path: Path, missing: bool, arguments: list[str], asked: bool
) -> None:
    tasks = yaml.safe_load((ROOT / "roles/postgresql/tasks/databases.yml").read_text())
    for task in tasks:
        if task.pop("ansible.builtin.apt", None):
            task |= {"ansible.builtin.debug": {"msg": "installed"}, "changed_when": missing}
        if task.pop("community.postgresql.postgresql_user", None):
            # It would talk to a server, as somebody else, in secret.
            for word in ("become", "become_user", "no_log"):
                del task[word]
            task["ansible.builtin.debug"] = {"msg": "asked for {{ item.key }}"}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
    said = {**SETTINGS, "ansible_python_interpreter": sys.executable}
    options = ("-i", "localhost,", "-c", "local", "-e", json.dumps(said))
    result = run_play(tmp_path, play, *options, *arguments)
    assert result.returncode == 0, result.stdout
    assert ("asked for quay" in result.stdout) is asked
