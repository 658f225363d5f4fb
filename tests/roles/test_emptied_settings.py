"""A setting of the base system that is emptied again is out of force."""

import grp
import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.plays import ROOT, changes, run_play, task_of

BASE = ROOT / "roles/base"
PROXY = ("Tell programs about the proxy", "__base_proxy_file")
TIME = ("Keep the time", "__base_time_file")


class Host:
    """A host that one task of the role writes a file to."""

    def __init__(self, folder: Path, name: str, variable: str) -> None:
        self.folder, self.variable = folder, variable
        found = yaml.safe_load((BASE / "vars/main.yml").read_text())[variable]
        templates = f"template', '{BASE}/templates/"
        self.file = {
            "path": f"{folder}{found['path']}",
            "content": found["content"].replace("template', '", templates),
            "owner": pwd.getpwuid(os.getuid()).pw_name,
            "group": grp.getgrgid(os.getgid()).gr_name,
        }
        task = task_of("roles/base/tasks/system.yml", name)
        if "pending" in task["config_files"]:
            task["config_files"]["pending"] = str(folder / "mark")
        loaded = {"path": str(folder / "mark"), "state": "absent"}
        self.play = {
            "hosts": "localhost",
            "gather_facts": False,
            "vars_files": [str(BASE / f"{part}/main.yml") for part in ("defaults", "vars")],
            "tasks": [task],
            "handlers": [
                {"name": "Reload the time servers", "ansible.builtin.file": loaded},
            ],
        }

    def apply(self, *arguments: str, **settings: Any) -> tuple[int, str]:
        """Run the task; return how often something changed, and what is in the file."""
        said = {
            "ansible_python_interpreter": sys.executable,
            "__base_own_kernel": True,
            self.variable: self.file,
            **settings,
        }
        options = ("-i", "localhost,", "-c", "local", "-e", json.dumps(said))
        result = run_play(self.folder, self.play, *options, *arguments)
        path = Path(self.file["path"])
        return changes(result), path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("task", "setting", "value", "line", "times"),
    [
        (
            PROXY,
            "base_http_proxy",
            "http://proxy.example:3128",
            "export https_proxy=http://proxy.example:3128\n",
            1,
        ),
        # The file and its handler.
        (TIME, "base_time_servers", ["time.example"], "server time.example iburst\n", 2),
    ],
    ids=["proxy", "time servers"],
)
def test_its_file_goes(
    tmp_path: Path, task: tuple[str, str], setting: str, value: Any, line: str, times: int
) -> None:
    host = Host(tmp_path, *task)
    empty = type(value)()
    assert host.apply(**{setting: empty}) == (0, "")
    assert host.apply("--check", **{setting: empty}) == (0, "")
    changed, text = host.apply(**{setting: value})
    assert changed == times
    assert line in text
    assert host.apply(**{setting: value}) == (0, text)
    checked, kept = host.apply("--check", **{setting: empty})
    assert checked
    assert kept == text
    assert host.apply(**{setting: empty}) == (times, "")
    assert host.apply(**{setting: empty}) == (0, "")
