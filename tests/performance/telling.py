"""What measurements tell whoever has asked for them."""

import shutil
import sys


def say(line: str) -> None:
    """Tells one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def is_missing(*programs: str) -> bool:
    """Tells the first of these programs that this machine lacks; answers whether it lacks one."""
    for program in programs:
        if shutil.which(program) is None:
            say(f"This measurement needs {program}: apt-get install {program}")
            return True
    return False
