"""The network of a lab: a bridge, its addresses, one translation rule, names on the controller."""

import fcntl
import hashlib
import ipaddress
import json
import re
from pathlib import Path

from deploy.lab.controller import run
from deploy.lab.errors import LabError
from deploy.lab.settings import Lab

_HOSTS = Path("/etc/hosts")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
# There while the controller forwards packets for labs alone: the last of them ends it, whichever it
# is.
_FORWARDS_FOR_LABS = Path("/run/slipway-lab-forwarding")
# Private addresses (RFC 1918) that few networks use.
_POOL = ipaddress.IPv4Network("10.213.0.0/16")


def free_network(key: str) -> str:
    """Return a network of 256 addresses that no interface or route of this machine uses.

    Raises:
        LabError: All of them are in use.
    """
    routes = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all") or "[]")
    used = [
        ipaddress.IPv4Network(route["dst"], strict=False)
        for route in routes
        if re.fullmatch(r"[0-9./]+", str(route.get("dst", "")))
    ]
    networks = list(_POOL.subnets(new_prefix=24))
    first = int(key, 16) % len(networks)
    for network in networks[first:] + networks[:first]:
        if not any(network.overlaps(other) for other in used):
            return str(network)
    raise LabError(f"All networks in {_POOL} are in use on this machine.")


def local_network6(key: str) -> str:
    """Return a unique local IPv6 network (RFC 4193) for an identity."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"fd{digest[:2]}:{digest[2:6]}:{digest[6:10]}::/64"


def up(lab: Lab) -> None:
    """Make the bridge, the translation rule and the names; what is there already stays."""
    if not Path(f"/sys/class/net/{lab.bridge}").exists():
        run("ip", "link", "add", lab.bridge, "type", "bridge", "forward_delay", "0")
    present = run("ip", "address", "show", "dev", lab.bridge)
    if f" {lab.gateway}/" not in present:
        run("ip", "address", "add", f"{lab.gateway}/24", "dev", lab.bridge)
    if f" {lab.address6(1)}/" not in present:
        # Without nodad the authority could not listen on it for a second.
        run("ip", "address", "add", f"{lab.address6(1)}/64", "dev", lab.bridge, "nodad")
    run("ip", "link", "set", lab.bridge, "up")
    if _FORWARDING.read_text().strip() != "1":
        _FORWARDS_FOR_LABS.touch()
        _FORWARDING.write_text("1")
    table = f"slipway_{lab.key}"
    run(
        *("nft", "-f", "-"),
        text=f"""
        table ip {table}
        delete table ip {table}
        table ip {table} {{
            chain postrouting {{
                type nat hook postrouting priority srcnat;
                ip saddr {lab.network} oifname != "{lab.bridge}" masquerade
            }}
        }}
        """,
    )
    _write_names(lab, names(lab))


def down(lab: Lab) -> None:
    """Take all of it away, whatever of it is there."""
    run("nft", "delete", "table", "ip", f"slipway_{lab.key}", check=False)
    run("ip", "link", "delete", lab.bridge, check=False)
    others = "table ip slipway_" in run("nft", "list", "tables", check=False)
    if not others and _FORWARDS_FOR_LABS.exists():
        _FORWARDING.write_text("0")
        _FORWARDS_FOR_LABS.unlink()
    _write_names(lab, [])


def names(lab: Lab) -> list[str]:
    """Return lines of hosts(5): the hosts, the authority, and the sites, where they are served."""
    lines = [f"{lab.gateway} acme.{lab.domain}"]
    edge = next((host for host in lab.hosts if "balancer" in host.groups), lab.hosts[0])
    for host in lab.hosts:
        sites = [f"{alias}.{lab.domain}" for alias in lab.aliases] if host == edge else []
        known = " ".join([f"{host.name}.{lab.domain}", *sites])
        lines += [f"{lab.address(host.number)} {known}", f"{lab.address6(host.number)} {known}"]
    return lines


def free_name(state: Path, wanted: str) -> str:
    """Return a name for a lab that no other lab on this machine has."""
    text = _HOSTS.read_text()
    taken = set()
    for block in re.finditer(r"^# slipway lab (\S+) (\S+): begin$", text, re.MULTILINE):
        if block[2] != str(state):
            taken.add(block[1])
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name


def _write_names(lab: Lab, lines: list[str]) -> None:
    mark = f"# slipway lab {lab.name} {lab.state}"
    block = "".join(f"{line}\n" for line in [f"{mark}: begin", *lines, f"{mark}: end"])
    with _HOSTS.open("r+") as file:
        # Another lab may be at it; the file is written in place, since it can be a mount.
        fcntl.flock(file, fcntl.LOCK_EX)
        old = file.read()
        owned = rf"^# slipway lab \S+ {re.escape(str(lab.state))}: begin\n.*?: end\n"
        rest = re.sub(owned, "", old, flags=re.MULTILINE | re.DOTALL)
        if rest and not rest.endswith("\n"):
            rest += "\n"
        new = rest + (block if lines else "")
        if new != old:
            file.seek(0)
            file.write(new)
            file.truncate()
