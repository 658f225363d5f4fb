"""What a lab is made of: its name, its addresses, its hosts, kept in `lab.json` of its state."""

import dataclasses
import hashlib
import ipaddress
import json
import os
import re
from pathlib import Path

from deploy.lab.errors import LabError

#: Suites of the distributions that a host can be, with the admin user of their cloud images.
DISTRIBUTIONS = {
    "debian-12": ("debian", "bookworm", "admin"),
    "debian-13": ("debian", "trixie", "admin"),
    "ubuntu-22.04": ("ubuntu", "jammy", "ubuntu"),
    "ubuntu-24.04": ("ubuntu", "noble", "ubuntu"),
    "ubuntu-26.04": ("ubuntu", "resolute", "ubuntu"),
}
GROUPS = ("app", "database", "cache", "balancer")
DEFAULT_MAIL_PORT = 1025
# What a lab of one host needs.
_ONE_HOST = GROUPS[:3]
_PARTS = 4
_NAME = re.compile(r"[a-z][a-z0-9-]{0,20}")


@dataclasses.dataclass(frozen=True)
class Host:
    """One host of a lab.

    Attributes:
        name: Its host name.
        distribution: A key of `DISTRIBUTIONS`.
        user: Who logs in: `root` as on a droplet, or a user with sudo as on EC2.
        groups: Groups of the inventory that it belongs to.
        number: Last part of its addresses.
    """

    name: str
    distribution: str
    user: str
    groups: tuple[str, ...]
    number: int


@dataclasses.dataclass(frozen=True)
class Lab:
    """A lab, as it was made.

    Attributes:
        state: Folder of everything that belongs to it.
        cache: Folder of the images, which other labs share.
        name: Its name; hosts are found as `<host>.<name>.test`.
        network: IPv4 network of the bridge.
        network6: IPv6 network (RFC 4193).
        aliases: Names in its domain that lead to the balancer or else to the first host.
        hosts: Its hosts.
        mail_port: Where the controller takes the mail of the hosts, on the bridge.
    """

    state: Path
    cache: Path
    name: str
    network: str
    network6: str
    aliases: tuple[str, ...]
    hosts: tuple[Host, ...]
    mail_port: int = DEFAULT_MAIL_PORT

    @property
    def domain(self) -> str:
        """Domain of all names; `.test` is reserved by RFC 6761."""
        return f"{self.name}.test"

    @property
    def key(self) -> str:
        """Identity among the labs of this machine, short enough for an interface name."""
        return identity(self.state)

    @property
    def bridge(self) -> str:
        """Name of the bridge, at most 15 characters."""
        return f"sw-{self.key}"

    @property
    def gateway(self) -> str:
        """Address of the controller on the bridge."""
        return self.address(1)

    def address(self, number: int) -> str:
        """IPv4 address of a number of the lab."""
        return str(ipaddress.IPv4Network(self.network)[number])

    def address6(self, number: int) -> str:
        """IPv6 address of a number of the lab."""
        return str(ipaddress.IPv6Network(self.network6)[number])

    @property
    def authority(self) -> Path:
        """Folder of the certificate authority."""
        return self.state / "authority"

    @property
    def mail(self) -> Path:
        """Folder of the mail that the hosts have sent."""
        return self.state / "mail"

    def folder(self, host: Host) -> Path:
        """Folder of a host."""
        return self.state / "hosts" / host.name

    def host(self, name: str | None) -> Host:
        """Return a host by its name, or the first one.

        Raises:
            LabError: There is no such host.
        """
        for host in self.hosts:
            if name in {None, host.name}:
                return host
        names = ", ".join(host.name for host in self.hosts)
        raise LabError(f"The lab has no host {name}, only {names}.")

    def ssh(self, host: Host) -> list[str]:
        """Command that enters a host, known by its key."""
        return [
            "ssh",
            *("-i", str(self.state / "ssh/key"), "-o", "IdentitiesOnly=yes"),
            *("-o", f"UserKnownHostsFile={self.state / 'ssh/known_hosts'}"),
            *("-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes"),
            *("-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"),
            f"{host.user}@{self.address(host.number)}",
        ]


def identity(state: Path) -> str:
    """Return a short name that no other folder of lab state has."""
    return hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]


def parse_host(text: str, number: int) -> Host:
    """Read `name:distribution:user[:group+group]`, as `--host` takes it.

    Raises:
        LabError: A part of it cannot be right.
    """
    name, distribution, user, groups = (*text.split(":"), "", "", "")[:_PARTS]
    distribution = distribution or "debian-12"
    if _NAME.fullmatch(name) is None or text.count(":") >= _PARTS:
        raise LabError(f"{text!r} is no host: write name:distribution:user, web1:debian-12:root.")
    if distribution not in DISTRIBUTIONS:
        raise LabError(f"{distribution} is not known: choose from {', '.join(DISTRIBUTIONS)}.")
    user = user or "root"
    if user not in {"root", DISTRIBUTIONS[distribution][2]}:
        raise LabError(
            f"The images of {distribution} have the users root and "
            f"{DISTRIBUTIONS[distribution][2]}, not {user}."
        )
    chosen = tuple(groups.split("+")) if groups else (_ONE_HOST if number == _FIRST else GROUPS[:1])
    if unknown := sorted(set(chosen) - set(GROUPS)):
        raise LabError(f"{unknown[0]} is no group: choose from {', '.join(GROUPS)}.")
    return Host(name, distribution, user, chosen, number)


_FIRST = 10


def parse_hosts(texts: list[str]) -> tuple[Host, ...]:
    """Read all hosts of a lab, numbered from 10 on.

    Raises:
        LabError: One of them cannot be right, or two have the same name.
    """
    hosts = tuple(parse_host(text, _FIRST + index) for index, text in enumerate(texts))
    if len({host.name for host in hosts}) < len(hosts):
        raise LabError("Two hosts of a lab cannot have the same name.")
    return hosts


def save(lab: Lab) -> None:
    """Write what the lab is made of, before anything of it is made."""
    lab.state.mkdir(parents=True, exist_ok=True)
    values = dataclasses.asdict(lab) | {"state": str(lab.state), "cache": str(lab.cache)}
    temporary = lab.state / ".lab.json.new"
    temporary.write_text(json.dumps(values, indent=1) + "\n")
    temporary.replace(lab.state / "lab.json")


def load(state: Path) -> Lab | None:
    """Return the lab of a state folder; None when there is none."""
    try:
        values = json.loads((state / "lab.json").read_text())
    except FileNotFoundError:
        return None
    values["hosts"] = tuple(
        Host(**(host | {"groups": tuple(host["groups"])})) for host in values["hosts"]
    )
    values["aliases"] = tuple(values["aliases"])
    # Labs of older versions have it.
    values.pop("forwarding", None)
    # The folder may have been moved with its clone: where it is now decides.
    return Lab(**(values | {"state": state.resolve(), "cache": Path(values["cache"])}))


def default_state() -> Path:
    """Return the folder of the lab that no option names."""
    chosen = os.environ.get("SLIPWAY_LAB_STATE")
    return Path(chosen) if chosen else Path(__file__).parents[2] / ".lab"


def default_cache() -> Path:
    """Return the folder of the images."""
    chosen = os.environ.get("SLIPWAY_CACHE")
    return Path(chosen) if chosen else Path(__file__).parents[2] / ".lab/cache"
