"""Plays that are run alone, by Ansible as an operator would."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def run_play(
    folder: Path, play: dict[str, Any], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a play that is written into a folder, with arguments of ansible-playbook."""
    playbook = folder / "play.json"
    playbook.write_text(json.dumps([play]))
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    return subprocess.run(
        [program, *arguments, str(playbook)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def task_of(path: str, name: str) -> dict[str, Any]:
    """Return the one task of this name in a file of the project."""
    (task,) = [task for task in yaml.safe_load((ROOT / path).read_text()) if task["name"] == name]
    found: dict[str, Any] = task
    return found


def changes(result: subprocess.CompletedProcess[str]) -> int:
    """Return how often something changed in a play that went well on one host."""
    assert result.returncode == 0, result.stdout + result.stderr
    found = re.search(r"changed=(\d+)", result.stdout)
    assert found
    return int(found[1])


def refusal_of_base(folder: Path, name: str, facts: dict[str, Any], **settings: Any) -> str:
    """What a check of the role base says before anything is changed; '' when it lets pass."""
    names = [
        task["name"] for task in yaml.safe_load((ROOT / "roles/base/tasks/main.yml").read_text())
    ]
    assert names.index(name) < names.index("Set up packages")
    play = {
        "hosts": "web1",
        "gather_facts": False,
        "vars_files": [str(ROOT / f"roles/base/{part}/main.yml") for part in ("defaults", "vars")],
        "tasks": [{"given_facts": {"facts": facts}}, task_of("roles/base/tasks/main.yml", name)],
    }
    said = json.dumps({**settings, "ansible_python_interpreter": sys.executable})
    options = (f"--module-path={ROOT / 'tests/roles/library'}", "-i", "web1,", "-c", "local")
    result = run_play(folder, play, *options, "-e", said)
    return " ".join((result.stdout + result.stderr).split()) if result.returncode else ""
