"""Keeps one host powered on: ``python -m deploy.lab.supervisor STATE HOST``.

It runs in a mount namespace of its own, so that the host's overlay is seen nowhere else and ends
with the last of its processes, however they end.
"""

import ctypes
import secrets
import signal
import subprocess
import sys
from pathlib import Path

from deploy.lab import cgroups, hosts, network, processes, settings
from deploy.lab.controller import run
from deploy.lab.settings import Host, Lab

# systemd-nspawn(1), "Exit status": the container asked for a reboot.
_REBOOT = 133
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Mount, boot, and boot again as long as the host reboots."""
    lab = settings.load(Path(arguments[0]))
    if lab is None:
        return 1
    host = lab.host(arguments[1])
    folder = lab.folder(host)
    root = folder / "root"
    cgroups.enter(hosts.machine(lab, host))
    layers = f"lowerdir={(folder / 'image').read_text()},upperdir={folder / 'upper'}"
    run(
        *("mount", "-t", "overlay", "overlay", "-o", f"{layers},workdir={folder / 'work'}"),
        str(root),
    )
    if not (folder / "prepared").exists():
        prepare(lab, host, root)
        (folder / "prepared").touch()
    if not Path("/run/systemd/system").exists():
        # Where systemd does not run, nspawn's own folder is missing.
        Path("/run/systemd/nspawn").mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", "/run/systemd/nspawn")
    _give_identity(folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while (status := _boot(lab, host, root)) == _REBOOT:
        pass
    return status


def _give_identity(folder: Path) -> None:
    """Show nspawn an identity of the machine (machine-id(5)), where this one has not got its own.

    nspawn derives the addresses of interfaces from it. Fresh images and containers have it empty.
    """
    own = Path("/etc/machine-id")
    if not own.read_text().strip():
        made = folder / "machine-id"
        made.write_text(f"{secrets.token_hex(16)}\n")
        run("mount", "--bind", str(made), str(own))


def _boot(lab: Lab, host: Host, root: Path) -> int:
    """Run the host until it ends; returns nspawn's exit status."""
    command = [
        *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--resolv-conf=off"),
        *(f"--directory={root}", "--boot", "--console=read-only", "--timezone=off"),
        *(f"--network-bridge={lab.bridge}", f"--machine={hosts.machine(lab, host)}"),
        *(f"--hostname={host.name}", f"--setenv={hosts.mark(lab.folder(host))}"),
        # Without these, IPAddressDeny= of a unit is silently not enforced.
        *("--capability=CAP_BPF,CAP_PERFMON", "--system-call-filter=bpf"),
    ]
    # The supervisor has one thread, so that running our own code between fork and exec is safe.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=_die_with_parent,  # noqa: PLW1509
    )
    processes.remember(lab.folder(host) / "nspawn.pid", process.pid)
    try:
        return process.wait()
    finally:
        process.kill()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def prepare(lab: Lab, host: Host, root: Path) -> None:
    """Make of the image what a cloud provider makes of its own: name, address, key, user."""
    _write(root / "etc/hostname", f"{host.name}\n")
    _write(root / "etc/systemd/network/10-host0.network", _network(lab, host))
    _write(root / "etc/resolv.conf", _resolvers())
    own = [f"127.0.0.1 localhost {host.name}", "::1 localhost"]
    _write(root / "etc/hosts", "\n".join([*own, *network.names(lab)]) + "\n")
    key = lab.folder(host) / "host_key"
    _write(root / "etc/ssh/ssh_host_ed25519_key", key.read_text(), 0o600)
    _write(root / "etc/ssh/ssh_host_ed25519_key.pub", key.with_suffix(".pub").read_text())
    home = Path("/root")
    if host.user != "root":
        home = Path("/home") / host.user
        run(
            *("chroot", str(root), "useradd", "--create-home", "--shell=/bin/bash"),
            *("--password=!", host.user),
        )
        rule = f"{host.user} ALL=(ALL) NOPASSWD:ALL\n"
        _write(root / f"etc/sudoers.d/90-{host.user}", rule, 0o440)
    run("chroot", str(root), "install", "-d", "-m", "700", "-o", host.user, str(home / ".ssh"))
    keys = home / ".ssh/authorized_keys"
    _write(root / str(keys)[1:], (lab.state / "ssh/key.pub").read_text(), 0o600)
    run("chroot", str(root), "chown", host.user, str(keys))


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode)
    path.chmod(mode)
    path.write_text(text)


def _network(lab: Lab, host: Host) -> str:
    return f"""[Match]
Name=host0

[Network]
Address={lab.address(host.number)}/24
Address={lab.address6(host.number)}/64
Gateway={lab.gateway}
DHCP=no
IPv6AcceptRA=no
LLMNR=no
MulticastDNS=no
LinkLocalAddressing=ipv6
"""


def _resolvers() -> str:
    """Name servers of the controller; those on its loopback are not reached from a host."""
    for path in ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"):
        if Path(path).exists():
            lines = Path(path).read_text().splitlines()
            usable = [
                line for line in lines if line.startswith("nameserver") and " 127." not in line
            ]
            if usable:
                return "\n".join(usable) + "\n"
    return "# The controller has no name server that a host could reach.\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
