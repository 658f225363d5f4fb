"""Hosts of a lab: an overlay over the image, a booted system, a way in by SSH."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from deploy.lab import cgroups, image, processes
from deploy.lab.controller import run
from deploy.lab.errors import LabError
from deploy.lab.settings import Host, Lab

_BOOT_SECONDS = 60.0


def make_key(lab: Lab) -> None:
    """Make the key that opens the hosts of this lab, unless it is there."""
    key = lab.state / "ssh/key"
    if not key.exists():
        key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {lab.name}", "-f", str(key))


def running(lab: Lab, host: Host) -> bool:
    """Tell whether a host is powered on."""
    return processes.running(lab.folder(host) / "supervisor.pid") is not None


def start(lab: Lab, host: Host) -> bool:
    """Power a host on; tell whether it was off."""
    folder = lab.folder(host)
    if running(lab, host):
        return False
    _end_leftovers(folder)
    base = image.ensure(host.distribution, lab.cache)
    recorded = folder / "image"
    if recorded.exists() and (folder / "upper").exists() and Path(recorded.read_text()).is_dir():
        # An upper layer belongs to the image that it was begun on.
        base = Path(recorded.read_text())
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    recorded.write_text(str(base))
    _make_host_key(lab, host)
    command = [
        *("unshare", "--mount", sys.executable, "-m", "deploy.lab.supervisor"),
        *(str(lab.state), host.name),
    ]
    root = Path(__file__).parents[2]
    processes.start(
        folder / "supervisor.pid", command, folder / "console.log", {"PYTHONPATH": str(root)}
    )
    return True


def wait(lab: Lab, host: Host) -> None:
    """Wait until a host lets somebody in.

    Raises:
        LabError: It did not boot in time; with the place of its console.
    """
    deadline = time.monotonic() + _BOOT_SECONDS
    while True:
        if not running(lab, host):
            raise LabError(f"{host.name} did not boot: see {lab.folder(host) / 'console.log'}.")
        try:
            socket.create_connection((lab.address(host.number), 22), timeout=1).close()
            answer = subprocess.run(
                [*lab.ssh(host), "true"], check=False, capture_output=True, text=True, timeout=15
            )
            reason = answer.stderr.strip()
            if answer.returncode == 0:
                return
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise LabError(
                f"{host.name} does not let anybody in ({reason}): "
                f"see {lab.folder(host) / 'console.log'}."
            )
        time.sleep(0.1)


def power_cut(lab: Lab, host: Host) -> None:
    """Take the power from a host: nothing in it ends in an orderly way."""
    folder = lab.folder(host)
    # The supervisor goes first, or it would report the death of its host as a power-off.
    processes.stop(folder / "supervisor.pid", signal.SIGKILL)
    processes.stop(folder / "nspawn.pid", signal.SIGKILL)
    _end_leftovers(folder)
    cgroups.remove(machine(lab, host))


def remove(lab: Lab, host: Host) -> None:
    """End a host and forget everything on it."""
    power_cut(lab, host)
    shutil.rmtree(lab.folder(host), ignore_errors=True)


def _end_leftovers(folder: Path) -> None:
    """End what runs in the host: its first process outlives the program that booted it."""
    for number in processes.first_of_container(mark(folder)):
        record = folder / "first.pid"
        processes.remember(record, number)
        processes.stop(record, signal.SIGKILL)


def machine(lab: Lab, host: Host) -> str:
    """Name of a host among all that this machine carries."""
    return f"slipway-{lab.key}-{host.name}"


def mark(folder: Path) -> str:
    """Variable that the first process of a host carries, to be found by."""
    return f"SLIPWAY_LAB_HOST={folder}"


def _make_host_key(lab: Lab, host: Host) -> None:
    """Give a host its identity before it boots, so that nobody has to trust it at first sight."""
    folder = lab.folder(host)
    key = folder / "host_key"
    if not key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", str(key))
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    names = [lab.address(host.number), lab.address6(host.number), f"{host.name}.{lab.domain}"]
    known = lab.state / "ssh/known_hosts"
    lines = known.read_text().splitlines() if known.exists() else []
    kept = [line for line in lines if line.split()[0].split(",")[0] != names[0]]
    known.write_text("\n".join([*kept, f"{','.join(names)} {public}"]) + "\n")
