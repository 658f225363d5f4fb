"""Plays that are run alone, by Ansible as an operator would."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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
