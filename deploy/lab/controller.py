"""What the machine that carries the lab must be and have."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.lab.errors import LabError

_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
    "openssl": "openssl",
    "pebble": "pebble",
    "pebble-challtestsrv": "pebble",
}


def require() -> None:
    """Refuse a machine that cannot carry a lab.

    Raises:
        LabError: It is not Debian-like, the user is not root, or a package is missing.
    """
    if shutil.which("apt-get") is None:
        raise LabError("The lab needs a Debian or Ubuntu machine: this one has no apt-get.")
    if os.geteuid() != 0:
        raise LabError("The lab boots hosts and makes a bridge, which needs root: run it as root.")
    if not Path("/etc/machine-id").exists():
        raise LabError("This machine has no /etc/machine-id: run `systemd-machine-id-setup`.")
    missing = sorted({package for name, package in _PROGRAMS.items() if not shutil.which(name)})
    if missing:
        raise LabError(
            f"The lab lacks {', '.join(missing)}: run `apt-get install {' '.join(missing)}`."
        )


def say(line: str) -> None:
    """Tell progress to whoever waits."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(*command: str, text: str | None = None, check: bool = True) -> str:
    """Run a program and return what it printed.

    Raises:
        LabError: It failed; with the last line that it said.
    """
    answer = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        input=text,
        stdin=None if text is not None else subprocess.DEVNULL,
    )
    if check and answer.returncode:
        lines = (answer.stderr or answer.stdout).strip().splitlines() or ["no message"]
        raise LabError(f"`{' '.join(command)}` failed: {lines[-1]}")
    return answer.stdout


def certificates() -> list[Path]:
    """Return the authorities that the operator of this machine added to it."""
    return sorted(Path("/usr/local/share/ca-certificates").glob("**/*.crt"))
