"""The program of the tests: the real command, with a fault where the environment asks for one.

`FAULT=<step>` ends the operation with SIGKILL right after that step; `PAUSE=<step>` holds it there.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "roles/release/files"))

from slipway_release import steps
from slipway_release.command_line import main
from slipway_release.work import Work

WORLD = Path(os.environ["WORLD"])


def after(step: steps.Step, then: Callable[[], None]) -> steps.Step:
    def run(work: Work) -> str:
        outcome = step.run(work)
        then()
        return outcome

    return step._replace(run=run)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def paused() -> None:
    (WORLD / "paused").touch()
    time.sleep(30)


for name, act in (("FAULT", killed), ("PAUSE", paused)):
    chosen = os.environ.get(name)
    steps.STEPS = tuple(after(s, act) if s.name == chosen else s for s in steps.STEPS)

sys.exit(main(directory=WORLD / "etc"))
