"""Runs the command of a transient unit, and lets the unit end with it."""

import subprocess
import sys
from pathlib import Path

unit = Path(sys.argv[1])
subprocess.run(sys.argv[2:], check=False)
unit.unlink()
