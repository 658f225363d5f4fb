"""Runs a playbook against the lab, showing what changes instead of every task."""

import os
import re
import sys
from pathlib import Path

from deploy.demo.errors import DemoError
from deploy.demo.progress import say
from deploy.logged import ROOT, run_logged

INVENTORY = "inventories/lab"
_TASK = re.compile(r"(?:TASK|RUNNING HANDLER) \[(?:(?P<role>[\w-]+) : )?(?P<name>.*)\] \**$")
_PLAY = re.compile(r"PLAY \[(?P<name>.*)\] \**$")
_RECAP = re.compile(r"(?P<host>\S+)\s+: ok=.*changed=(?P<changed>\d+)\s.*failed=(?P<failed>\d+)")


class Reader:
    """Turns the output of ansible-playbook into a few lines for people.

    Attributes:
        changed: Changes on each host, as the recap counts them.
        trouble: Lines from the first failure to the recap.
    """

    def __init__(self) -> None:
        self.changed: dict[str, int] = {}
        self.trouble: list[str] = []
        self._role = ""
        self._task = ""
        self._failed = False
        self._ended = False

    def read(self, line: str) -> str | None:
        """Take the next line; return what is to be shown of it."""
        self._keep_trouble(line)
        if play := _PLAY.match(line):
            self._role = ""
            return f"  {play['name']}"
        if task := _TASK.match(line):
            self._task = task["name"]
            if task["role"] and task["role"] != self._role:
                self._role = task["role"]
                return f"    {self._role}"
        elif line.startswith("changed:"):
            return f"      changed: {self._task}"
        elif recap := _RECAP.match(line):
            self.changed[recap["host"]] = int(recap["changed"])
        return None

    def _keep_trouble(self, line: str) -> None:
        # Ansible tells a failure twice: first as an error with the place of the task, then as the
        # result of each host, which replaces it.
        if line.startswith("PLAY RECAP"):
            self._ended = True
        elif line.startswith(("fatal:", "failed:")) and not self._failed:
            self._failed, self.trouble = True, [line]
        elif (self.trouble or line.startswith(("ERROR", "[ERROR]"))) and not self._ended:
            self.trouble.append(line)


def play(name: str, log: Path, *arguments: str) -> int:
    """Run a playbook on the lab and return how much it changed.

    Raises:
        DemoError: It failed; what it said about that has been shown.
    """
    program = Path(sys.executable).with_name("ansible-playbook")
    reader, shown = Reader(), ""

    def tell(line: str) -> None:
        nonlocal shown
        said = reader.read(line.rstrip())
        # An item of a loop changes under the name of its task, which is said once.
        if said is not None and said != shown:
            say(said)
            shown = said

    command = [str(program), "-i", INVENTORY, name, *arguments]
    if run_logged(command, log, tell, {**os.environ, "ANSIBLE_NOCOLOR": "1"}):
        say("\n".join(reader.trouble or log.read_text(encoding="utf-8").splitlines()[-20:]))
        raise DemoError(f"{name} failed: {log.relative_to(ROOT)} has everything it said.")
    return sum(reader.changed.values())
