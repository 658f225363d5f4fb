#!/usr/bin/python3 -I
"""Take a host of a service out of this balancer, put it back, and ask: slipway-balancer --help.

A host is out when a rule of nftables resets the new connections of Nginx to it before they leave
this machine: Nginx turns to the next host before a byte of the request was sent. Nginx is not
reloaded for it, since a reload closes the idle connections of clients, and with them the request
that a client is just sending. Only Nginx is refused; this program can ask the host how it is.

One file a host says what is wanted of it; a host without a file is new, and out until it is well.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import http.client
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SETTINGS = Path("/etc/slipway/balancer")
STATE = Path("/var/lib/slipway-balancer")
_ANSWER_SECONDS = 2.0
_POLL_SECONDS = 0.1
_WATCH_SECONDS = 1.0
# Nginx passes over a host for its fail_timeout of 2 s, counted in whole seconds, after the last
# connection that was refused; until then one that was put back gets nothing yet.
_SETTLE_SECONDS = 3.5
_OK = 200


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the role `balancer` wrote.

    Attributes:
        app: Name of the service; `name` is its public name.
        hosts: Addresses of the hosts by name; they serve at `port`.
        certificates: File with the certificates that the hosts are known by, which are for
            `certificate_name`.
        user: Whose connections are refused to a host that is out.
        health_path: Answers 200; `version_key` is the member with the version, '' for none.
        drain_seconds: Longest time in which the connections to a host may end.
    """

    app: str
    name: str
    hosts: dict[str, str]
    certificates: str
    certificate_name: str
    port: int
    user: str
    health_path: str
    version_key: str
    drain_seconds: float


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is wanted of a host.

    Attributes:
        out: Whether it gets no requests now.
        version: What it has to serve to be put back; '' for anything, None for: by a command.
        until: Unix time from which any version will do; 0 for never.
    """

    out: bool = True
    version: str | None = ""
    until: float = 0.0


class RefusedError(Exception):
    """What was asked for cannot be done; nothing was changed."""


class Balancer:
    """The hosts of one service, and who of them gets requests."""

    def __init__(self, settings: Settings, state: Path) -> None:
        self.settings = settings
        self.folder = state / settings.app

    def wish(self, host: str) -> Wish:
        """Return what is wanted of a host."""
        with contextlib.suppress(FileNotFoundError):
            return Wish(**json.loads((self.folder / f"{host}.json").read_text()))
        return Wish()

    def require(self, host: str) -> None:
        """Refuse a host that is none of the service's."""
        if host not in self.settings.hosts:
            known = ", ".join(sorted(self.settings.hosts))
            raise RefusedError(f"{self.settings.app} has no host {host}, only: {known}.")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let one change happen at a time."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def change(self, host: str, wish: Wish) -> None:
        """Write what is wanted of a host, and let it take effect."""
        temporary = self.folder / f".{host}.new"
        temporary.write_text(json.dumps(dataclasses.asdict(wish)) + "\n")
        temporary.replace(self.folder / f"{host}.json")
        self.load()

    def load(self) -> None:
        """Refuse Nginx the connections to every host that is out, and to no other."""
        out = [a for host, a in sorted(self.settings.hosts.items()) if self.wish(host).out]
        subprocess.run(["nft", "-f", "-"], input=rules(self.settings, out), text=True, check=True)

    def forget(self) -> None:
        """Forget what was wanted of hosts that are none of the service's any more."""
        for path in self.folder.glob("*.json"):
            if path.stem not in self.settings.hosts:
                path.unlink()

    def others_in(self, host: str) -> bool:
        """Tell whether another host would get the requests."""
        return any(not self.wish(name).out for name in self.settings.hosts if name != host)

    def unsettled(self, host: str) -> float:
        """Return the seconds until one of the other hosts surely gets requests."""
        others = (name for name in self.settings.hosts if name != host and not self.wish(name).out)
        since = [(self.folder / f"{name}.json").stat().st_mtime for name in others]
        return max(0.0, min(since, default=0.0) + _SETTLE_SECONDS - time.time())

    def connected(self, host: str) -> bool:
        """Tell whether a connection to a host is open."""
        address, port = self.settings.hosts[host], self.settings.port
        # What follows the last colon would be a port.
        place = f"[{address}]" if ":" in address else address
        command = ["ss", "-Htn", "state", "established", f"dst {place} and dport = :{port}"]
        return bool(subprocess.run(command, capture_output=True, check=True).stdout.strip())

    def is_well(self, host: str, version: str | None) -> bool:
        """Tell whether a host answers, with a version when one is named."""
        status, live = ask(self.settings, host)
        return status == _OK and (not version or not self.settings.version_key or live == version)


def rules(settings: Settings, out: list[str]) -> str:
    """Return the rules of nftables that reset connections of Nginx to some addresses."""
    table = f"slipway_balancer_{settings.app.replace('-', '_')}"
    lines = "".join(
        f"    meta skuid {json.dumps(settings.user)} {'ip6' if ':' in address else 'ip'} daddr"
        f" {address} tcp dport {settings.port} tcp flags & (syn | ack) == syn"
        " reject with tcp reset\n"
        for address in out
    )
    # Made before it is deleted, it can be deleted the first time as well; all of it is one change.
    return (
        f"table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n  chain output {{\n"
        f"    type filter hook output priority filter; policy accept;\n{lines}  }}\n}}\n"
    )


class _Connection(http.client.HTTPSConnection):
    """HTTPS to an address, whose certificate is for the name of the fleet."""

    def __init__(self, settings: Settings, address: str) -> None:
        self._trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._trust.load_verify_locations(settings.certificates)
        self._name = settings.certificate_name
        super().__init__(address, settings.port, timeout=_ANSWER_SECONDS, context=self._trust)

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._trust.wrap_socket(self.sock, server_hostname=self._name)


def ask(settings: Settings, host: str) -> tuple[int, str]:
    """Return the status and the version that a host answers with; 0 and the reason for none."""
    connection = _Connection(settings, settings.hosts[host])
    try:
        headers = {"Host": settings.name, "Connection": "close"}
        connection.request("GET", settings.health_path, headers=headers)
        response = connection.getresponse()
        body = response.read(65536)
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()
    with contextlib.suppress(ValueError, LookupError, TypeError):
        return response.status, str(json.loads(body)[settings.version_key])
    return response.status, ""


def take_out(balancer: Balancer, host: str, seconds: float) -> str:
    """Send no new request to a host, and wait until those under way are through."""
    balancer.require(host)
    with balancer.alone():
        if not balancer.others_in(host):
            return f"{host} is the only host that gets requests: it stays in."
        time.sleep(balancer.unsettled(host))
        until = time.time() + seconds if seconds else 0.0
        balancer.change(host, Wish(out=True, version=None, until=until))
    begin = time.monotonic()
    while balancer.connected(host) and time.monotonic() < begin + balancer.settings.drain_seconds:
        time.sleep(_POLL_SECONDS)
    return f"{host} is out, drained in {time.monotonic() - begin:.1f} s"


def put_in(balancer: Balancer, host: str, version: str, seconds: float) -> tuple[int, str]:
    """Send requests to a host again, as soon as it serves a version."""
    balancer.require(host)
    deadline = time.monotonic() + seconds
    while not balancer.is_well(host, version):
        if time.monotonic() >= deadline:
            return 1, wait_for(balancer, host, version)
        time.sleep(_POLL_SECONDS)
    with balancer.alone():
        balancer.change(host, Wish(out=False))
    return 0, f"{host} gets requests"


def wait_for(balancer: Balancer, host: str, version: str) -> str:
    """Send no requests to a host that is not well, until it is."""
    found = status_of(balancer, host)
    with balancer.alone():
        if not balancer.others_in(host) and not balancer.wish(host).out:
            return f"{host} is the only host that gets requests, and not well: {found}"
        balancer.change(host, Wish(out=True, version=version))
    return f"{host} gets no requests until it serves {version or 'any version'}: {found}"


def start_anew(balancer: Balancer, host: str) -> str:
    """Send no requests to a host that has no release, whatever it had under its name before."""
    balancer.require(host)
    with balancer.alone():
        # The last one as well: it could answer nobody. What keeps a host out already stays.
        if not balancer.wish(host).out:
            balancer.change(host, Wish())
    return f"{host} is new: it gets no requests until it is well"


def status_of(balancer: Balancer, host: str) -> str:
    """Return what a host answers, in words."""
    status, said = ask(balancer.settings, host)
    return (
        f"it serves {said or 'something'}" if status == _OK else f"status {status} {said}".strip()
    )


def status_text(balancer: Balancer) -> str:
    """Return one line for each host."""
    lines = []
    for host, address in sorted(balancer.settings.hosts.items()):
        wish = balancer.wish(host)
        state = "in" if not wish.out else "out"
        if wish.out and wish.version is not None:
            state += f" until it serves {wish.version or 'any version'}"
        lines.append(f"{host}  {address}  {state}; {status_of(balancer, host)}")
    return "\n".join(lines)


def put_back(balancer: Balancer) -> list[str]:
    """Put back every host that waits for that and is well; tell which."""
    told = []
    for host in sorted(balancer.settings.hosts):
        wish = balancer.wish(host)
        overdue = 0 < wish.until < time.time()
        if not wish.out or (wish.version is None and not overdue):
            continue
        if balancer.is_well(host, wish.version):
            with balancer.alone():
                # A command may have wished for something else meanwhile.
                if balancer.wish(host) == wish:
                    balancer.change(host, Wish(out=False))
                    told.append(f"{host} gets requests")
    return told


def say(text: str) -> None:
    """Tell whoever waits, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _load_settings(app: str) -> Settings:
    try:
        return Settings(**json.loads((SETTINGS / f"{app}.json").read_text()))
    except FileNotFoundError as error:
        raise RefusedError(f"There is no service {app} on this balancer.") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slipway-balancer", description=__doc__.split("\n")[0])
    parser.add_argument("--app", required=True, help="name of the service")
    commands = parser.add_subparsers(dest="command", required=True)
    out = commands.add_parser("out", help="send a host no new requests and drain it")
    out.add_argument("host")
    out.add_argument(
        "--for", dest="seconds", type=float, default=0, help="put it back after seconds, when well"
    )
    into = commands.add_parser("in", help="send a host requests as soon as it is well")
    into.add_argument("host")
    into.add_argument("--version", default="", help="and serves this version")
    into.add_argument("--wait", dest="seconds", type=float, default=10, help="seconds to wait")
    new = commands.add_parser("new", help="send a host no requests before it is well again")
    new.add_argument("host")
    commands.add_parser("status", help="which hosts get requests")
    commands.add_parser("load", help="let the files take effect, and forget former hosts")
    commands.add_parser("watch", help="put hosts back that wait for it")
    return parser


def main() -> int:
    """Run one command."""
    options = _parser().parse_args()
    status, text = 0, ""
    try:
        balancer = Balancer(_load_settings(options.app), STATE)
        if options.command == "out":
            text = take_out(balancer, options.host, options.seconds)
        elif options.command == "in":
            status, text = put_in(balancer, options.host, options.version, options.seconds)
        elif options.command == "new":
            text = start_anew(balancer, options.host)
        elif options.command == "status":
            text = status_text(balancer)
        else:
            with balancer.alone():
                balancer.forget()
                balancer.load()
        while options.command == "watch":
            for line in put_back(balancer):
                say(line)
            time.sleep(_WATCH_SECONDS)
    except (RefusedError, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if text:
        say(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
