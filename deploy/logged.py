"""A program whose output is kept in a log while somebody reads along."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_logged(
    command: Sequence[str],
    log: Path,
    told: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a program at the top of the repository, without standard input.

    Args:
        command: The program and its arguments.
        log: Gets everything that it says, line by line.
        told: Called with each line.
        environment: Its whole environment; by default the one of this process.

    Returns:
        Its exit status.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w", encoding="utf-8") as kept,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment if environment is not None else os.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        for line in process.stdout or ():
            kept.write(line)
            kept.flush()
            told(line)
    return process.returncode
