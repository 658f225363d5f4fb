"""What hits a host while a release is held at a step: begun on entry, healed on exit.

Each fault is a context manager of one host. Bounded in count and in time, on lab hosts alone.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Self

from tests.hosts.faults import Held
from tests.hosts.machine import Machine

_SLOW_CLIENTS = 60
_FLOOD_LINES = 200_000


@dataclass(frozen=True)
class Fault:
    """One row of the table of faults.

    Attributes:
        name: What happens, as the table says it.
        hits: Makes it happen for the length of a context.
        loses: Whether requests that are under way may be lost by it.
        harmless: Whether the release has to succeed all the same.
    """

    name: str
    hits: Callable[[Machine, Held], AbstractContextManager[None]]
    loses: bool = False
    harmless: bool = False

    def __str__(self) -> str:
        return self.name


@contextmanager
def operation_killed(machine: Machine, _: Held) -> Iterator[None]:
    """The process of the operation gets SIGKILL."""
    unit = f"slipway-{machine.app}-release.service"
    machine.run(f"kill -KILL $(systemctl show --value -p MainPID {unit})")
    yield


@contextmanager
def controller_lost(_: Machine, held: Held) -> Iterator[None]:
    """The SSH session of the operator ends in the middle."""
    held.process.kill()
    held.process.wait()
    yield


@contextmanager
def database_down(machine: Machine, _: Held) -> Iterator[None]:
    """PostgreSQL is stopped, and started again at the end."""
    listing = "systemctl list-units --plain --no-legend 'postgresql@*.service'"
    unit = machine.run(listing).stdout.split()[0]
    machine.run(f"systemctl stop {unit}")
    try:
        yield
    finally:
        machine.run(f"systemctl start {unit}")


@contextmanager
def cache_down(machine: Machine, _: Held) -> Iterator[None]:
    """The cache is stopped, and started again at the end."""
    listing = "systemctl list-units --plain --no-legend redis-server.service valkey-server.service"
    unit = machine.run(listing).stdout.split()[0]
    machine.run(f"systemctl stop {unit}")
    try:
        yield
    finally:
        machine.run(f"systemctl start {unit}")


@contextmanager
def worker_killed(machine: Machine, _: Held) -> Iterator[None]:
    """A worker of the live release gets SIGKILL."""
    unit = f"{machine.app}@{machine.release()}.service"
    machine.run(
        f"kill -KILL $(pgrep --parent $(systemctl show --value -p MainPID {unit}) | head -n 1)"
    )
    yield


@contextmanager
def master_killed(machine: Machine, _: Held) -> Iterator[None]:
    """The master of the live release gets SIGKILL."""
    unit = f"{machine.app}@{machine.release()}.service"
    machine.run(f"kill -KILL $(systemctl show --value -p MainPID {unit})")
    yield


@contextmanager
def journal_flooded(machine: Machine, _: Held) -> Iterator[None]:
    """Another unit writes far more lines than the journal takes from one."""
    unit = "slipway-test-flood"
    text = "x" * 200
    flood = f"yes {text} | head -n {_FLOOD_LINES}"
    machine.run(f"systemd-run --quiet --collect --unit={unit} sh -c '{flood}'")
    try:
        yield
    finally:
        machine.run(f"systemctl stop {unit}", check=False)


@contextmanager
def clients_slow(machine: Machine, _: Held) -> Iterator[None]:
    """Clients send the heads and the bodies of their requests a byte at a time, and never end."""
    with ExitStack() as stack:
        connections = []
        for number in range(_SLOW_CLIENTS):
            plain = stack.enter_context(socket.create_connection((machine.address, 443), 10))
            connection = machine.context.wrap_socket(plain, server_hostname=machine.site)
            stack.enter_context(connection)
            head = f"POST /api/v1/items HTTP/1.1\r\nHost: {machine.site}\r\n"
            if number % 2:
                head += "Content-Length: 1000\r\n\r\n"
            connection.sendall(head.encode())
            connections.append(connection)
        for _turn in range(3):
            for connection in connections:
                with suppress(OSError, ssl.SSLError):
                    connection.send(b"x")
            time.sleep(0.2)
        yield


class SmallDisk:
    """The folders of releases and of their state on file systems of their own, with little room.

    They are copies in memory; what they hold at the end is copied back.
    """

    FOLDERS = ("/srv/{app}", "/var/lib/slipway/{app}")
    SPARE_MEGABYTES = 700

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.folders = [folder.format(app=machine.app) for folder in self.FOLDERS]

    def __enter__(self) -> Self:
        self.make_room()
        for number, folder in enumerate(self.folders):
            used = int(self.machine.run(f"du -sm {folder}").stdout.split()[0])
            small = f"/run/slipway-small/{number}"
            self.machine.run(
                f"mkdir -p {small} && mount -t tmpfs -o mode=0755,size="
                f"{used * 2 + self.SPARE_MEGABYTES}m tmpfs {small} && cp -a {folder}/. {small}/ && "
                f"mount --bind {small} {folder}"
            )
        return self

    def __exit__(self, *_: object) -> None:
        for number, folder in enumerate(self.folders):
            small = f"/run/slipway-small/{number}"
            self.machine.run(
                f"umount -l {folder} && find {folder} -mindepth 1 -delete && "
                f"cp -a {small}/. {folder}/ && umount -l {small} && rmdir {small}"
            )

    def make_room(self) -> None:
        """Removes releases: here each is a copy, because uv's cache is on the other file system."""
        self.machine.run("slipway prune --keep=2")

    def fill(self) -> None:
        """Leaves no byte free."""
        for folder in self.folders:
            filler = f"{folder}/filler"
            self.machine.run(f"dd if=/dev/zero of={filler} bs=1M status=none", check=False)

    def free(self) -> None:
        """Takes back what filled it."""
        for folder in self.folders:
            self.machine.run(f"rm -f {folder}/filler")

    @contextmanager
    def full(self, _: Machine, __: Held) -> Iterator[None]:
        """The disk runs full, and is freed at the end."""
        self.fill()
        try:
            yield
        finally:
            self.free()


FAULTS = [
    Fault("the operation gets SIGKILL", operation_killed),
    Fault("the controller is lost", controller_lost, harmless=True),
    Fault("the database is down", database_down, loses=True),
    Fault("the cache is down", cache_down, harmless=True),
    Fault("a worker gets SIGKILL", worker_killed, loses=True),
    Fault("the master gets SIGKILL", master_killed, loses=True),
    Fault("another unit floods the journal", journal_flooded, harmless=True),
    Fault("slow clients hold connections", clients_slow, harmless=True),
]
