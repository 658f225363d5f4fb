"""The command of the lab: ``python -m deploy.lab up``, and its other verbs."""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from deploy.lab import authority, controller, hosts, image, inventory, mail, network, settings
from deploy.lab.errors import LabError
from deploy.lab.settings import Lab

_DEFAULT_HOST = "web1:debian-12:root"


def main() -> int:
    """Run one verb; what is wrong becomes one sentence on standard error."""
    options = _parser().parse_args()
    state = options.state.resolve()
    try:
        return int(options.verb(state, options))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def up(state: Path, options: argparse.Namespace) -> int:
    """Make the lab, or start what of it does not run."""
    controller.require()
    with _alone(state):
        lab = settings.load(state) or _new(state, options)
        wanted = settings.parse_hosts(options.host) if options.host else lab.hosts
        if wanted != lab.hosts:
            raise LabError(
                f"A lab with other hosts is in {state}: take it down first, or choose another "
                "folder with --state."
            )
        started = time.monotonic()
        for distribution in sorted({host.distribution for host in lab.hosts}):
            image.ensure(distribution, lab.cache)
        network.up(lab)
        authority.up(lab)
        mail.up(lab)
        hosts.make_key(lab)
        fresh = [host for host in lab.hosts if hosts.start(lab, host)]
        for host in lab.hosts:
            hosts.wait(lab, host)
        took = f"{time.monotonic() - started:.1f} s"
        done = f"started {', '.join(host.name for host in fresh)}" if fresh else "runs already"
        print(f"Lab {lab.name}: {done} ({took})")
        for host in lab.hosts:
            print(f"  {host.name}.{lab.domain}  {lab.address(host.number)}  {host.distribution}")
    return 0


def down(state: Path, _: argparse.Namespace) -> int:
    """Take the lab away, whatever of it is there."""
    lab = settings.load(state)
    if lab is None:
        print(f"There is no lab in {state}.")
        return 0
    controller.require()
    with _alone(state):
        for host in lab.hosts:
            hosts.remove(lab, host)
        mail.down(lab)
        authority.down(lab)
        network.down(lab)
        for name in ("hosts", "authority", "mail", "ssh"):
            shutil.rmtree(state / name, ignore_errors=True)
        (state / "lab.json").unlink()
        for folder in ("/run/systemd/nspawn", "/run/systemd"):
            # Made for nspawn where systemd does not run; others may still use it.
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
    (state / ".lock").unlink(missing_ok=True)
    print(f"Lab {lab.name}: taken down")
    return 0


def ssh(state: Path, options: argparse.Namespace) -> int:
    """Enter a host, or run a command on it."""
    lab = _existing(state)
    words = list(options.words)
    name = words.pop(0) if words and words[0] != "--" else None
    if words[:1] == ["--"]:
        words.pop(0)
    command = lab.ssh(lab.host(name))
    if not words:
        command.insert(1, "-t")
    os.execvp(command[0], [*command, *words])  # noqa: S606


def status(state: Path, options: argparse.Namespace) -> int:
    """Tell what the lab is made of and whether it runs."""
    lab = _existing(state)
    described = {
        "name": lab.name,
        "domain": lab.domain,
        "ca_bundle": str(authority.bundle(lab)),
        "acme_directory": authority.directory(lab),
        "mail": str(lab.mail),
        "hosts": [
            {
                "name": host.name,
                "distribution": host.distribution,
                "user": host.user,
                "address": lab.address(host.number),
                "address6": lab.address6(host.number),
                "running": hosts.running(lab, host),
                "ssh": lab.ssh(host),
            }
            for host in lab.hosts
        ],
    }
    if options.json:
        print(json.dumps(described, indent=1))
    else:
        print(f"Lab {lab.name} in {state}, certificates by {authority.directory(lab)}")
        for host in lab.hosts:
            runs = "runs" if hosts.running(lab, host) else "is off"
            address = lab.address(host.number)
            print(f"  {host.name}.{lab.domain}  {address}  {host.distribution}  {runs}")
    return 0


def reboot(state: Path, options: argparse.Namespace) -> int:
    """Reboot a host in an orderly way, from inside."""
    lab = _existing(state)
    host = lab.host(options.name)
    controller.run(*lab.ssh(host), "sudo -n systemctl reboot || systemctl reboot", check=False)
    return 0


def power_cut(state: Path, options: argparse.Namespace) -> int:
    """Take the power from a host."""
    lab = _existing(state)
    hosts.power_cut(lab, lab.host(options.name))
    return 0


def start(state: Path, options: argparse.Namespace) -> int:
    """Power a host on again."""
    lab = _existing(state)
    host = lab.host(options.name)
    hosts.start(lab, host)
    hosts.wait(lab, host)
    return 0


def show_inventory(state: Path, _: argparse.Namespace) -> int:
    """Answer as a dynamic inventory of Ansible."""
    print(json.dumps(inventory.of(_existing(state)), indent=1))
    return 0


def _existing(state: Path) -> Lab:
    lab = settings.load(state)
    if lab is None:
        raise LabError(f"There is no lab in {state}: make one with `make lab-up`.")
    return lab


def _new(state: Path, options: argparse.Namespace) -> Lab:
    key = settings.identity(state)
    wanted = options.name or ("slipway" if state.name == ".lab" else state.name)
    lab = Lab(
        state=state,
        cache=settings.default_cache().resolve(),
        name=network.free_name(state, wanted),
        network=network.free_network(key),
        network6=network.local_network6(key),
        aliases=tuple(options.alias or ["harbour"]),
        hosts=settings.parse_hosts(options.host or [_DEFAULT_HOST]),
        mail_port=options.mail_port,
    )
    settings.save(lab)
    return lab


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Let one command at a time change a lab."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"Another command is changing the lab in {state}: wait for it."
            raise LabError(message) from error
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.lab", description=__doc__)
    parser.add_argument("--state", type=Path, default=settings.default_state())
    verbs = parser.add_subparsers(required=True)

    def verb(name: str, function: object) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=str(function.__doc__))
        sub.set_defaults(verb=function)
        return sub

    making = verb("up", up)
    making.add_argument("--name", help="name of the lab, and of its domain <name>.test")
    making.add_argument("--host", action="append", help="name:distribution:user[:group+group]")
    making.add_argument("--alias", action="append", help="a site of the lab")
    making.add_argument("--mail-port", type=int, default=settings.DEFAULT_MAIL_PORT, metavar="PORT")
    verb("down", down)
    verb("ssh", ssh).add_argument("words", nargs=argparse.REMAINDER, metavar="[HOST] [-- COMMAND]")
    verb("status", status).add_argument("--json", action="store_true")
    for name, function in (("reboot", reboot), ("power-cut", power_cut), ("start", start)):
        verb(name, function).add_argument("name", nargs="?")
    verb("inventory", show_inventory)
    return parser


if __name__ == "__main__":
    sys.exit(main())
