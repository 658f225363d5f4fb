"""Measures what files cost on this machine: ``make bench-files``.

The service runs as a host runs it, behind Nginx with the role's settings for files, on a real disk.
Told are, for files of several sizes, as ratios of the times in rounds that take turns,

- an upload, to the same bytes sent to a bare handler behind the same Nginx, which writes the body
  to a file and brings it onto the disk in the same way;
- a download, to the same file sent by the same Nginx without the service.
"""

import contextlib
import http.client
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.performance.serving import RAW, Server, first_caller, served, stage
from tests.performance.telling import is_missing, say

ROUNDS = 7
KIB, MIB = 1024, 1024 * 1024
# Size of a file, and how many of them make a round.
SIZES = {64 * KIB: 40, MIB: 20, 32 * MIB: 3, 256 * MIB: 1}
PATH = "/api/v1/files"
UPLOAD = f"{PATH}/upload"
BOUNDARY = "slipway"
_HEAD = (
    f"--{BOUNDARY}\r\n"
    'Content-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    "\x89PNG\r\n\x1a\n"
).encode("latin-1")
_TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
_BLOCK = os.urandom(MIB)


@dataclass
class Client:
    """One connection to a server, with a caller's token."""

    connection: http.client.HTTPConnection
    token: str

    def ask(self, method: str, path: str, size: int = 0) -> bytes:
        """Send a request, for an upload the form of a file of that size; answer the body."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if size:
            headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
            headers["Content-Length"] = str(len(_HEAD) + size + len(_TAIL))
        self.connection.request(method, path, _form(size) if size else None, headers)
        response = self.connection.getresponse()
        if response.status >= http.client.BAD_REQUEST:
            raise SystemExit(f"{method} {path}: {response.status} {response.read()!r}")
        return response.read()

    def fetch(self, path: str) -> int:
        """Read what is at a path and keep nothing of it; answer its length."""
        self.connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        response = self.connection.getresponse()
        buffer, length = bytearray(MIB), 0
        while count := response.readinto(buffer):
            length += count
        return length


def _form(size: int) -> Iterator[bytes]:
    yield _HEAD
    for start in range(0, size, MIB):
        yield _BLOCK[: min(MIB, size - start)]
    yield _TAIL


def client_of(server: Server, token: str) -> Client:
    """A client of the Nginx before a server."""
    return Client(http.client.HTTPConnection("127.0.0.1", server.front, timeout=120), token)


def seconds(count: int, act: Callable[[], None]) -> float:
    """The time that doing something so often takes."""
    began = time.perf_counter()
    for _ in range(count):
        act()
    return time.perf_counter() - began


def compare(title: str, ours: Callable[[int], float], bare: Callable[[int], float]) -> None:
    """Tells the times of each size, and their ratios in the same round."""
    say(f"{title:10} {'ours':>12} {'bare':>12}  ratio of the speeds")
    for size, count in SIZES.items():
        # In the first round connections are opened and folders made.
        ours(size), bare(size)
        pairs = [(ours(size), bare(size)) for _ in range(ROUNDS)]
        ratios = [other / own for own, other in pairs]
        speeds = [
            size * count / MIB / statistics.median(times) for times in zip(*pairs, strict=True)
        ]
        name = f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
        say(
            f"{name:>10} {speeds[0]:7.0f} MiB/s {speeds[1]:6.0f} MiB/s  "
            f"{statistics.median(ratios):.2f} (rounds {min(ratios):.2f} to {max(ratios):.2f})"
        )


def uploads(ours: Client, bare: Client, folder: Path) -> None:
    """Tells what uploads take; what was kept is taken away outside of the time."""

    def to_us(size: int) -> float:
        kept: list[int] = []
        taken = seconds(
            SIZES[size], lambda: kept.append(json.loads(ours.ask("POST", UPLOAD, size))["id"])
        )
        for number in kept:
            ours.ask("DELETE", f"{PATH}/{number}")
        return taken

    def to_the_other(size: int) -> float:
        kept: list[str] = []
        taken = seconds(SIZES[size], lambda: kept.append(bare.ask("POST", UPLOAD, size).decode()))
        for name in kept:
            (folder / name).unlink()
        return taken

    compare("upload", to_us, to_the_other)


def downloads(ours: Client, folder: Path) -> None:
    """Tells what downloads take, by way of the service and without it."""
    places: dict[int, tuple[str, str]] = {}
    for size in SIZES:
        before = set(folder.rglob("*"))
        number = json.loads(ours.ask("POST", UPLOAD, size))["id"]
        (path,) = (one for one in set(folder.rglob("*")) - before if one.is_file())
        places[size] = f"{PATH}/{number}", f"/plain/{path.parent.name}/{path.name}"

    def fetched(size: int, place: str) -> float:
        lengths: set[int] = set()
        taken = seconds(SIZES[size], lambda: lengths.add(ours.fetch(place)))
        # The file begins as a picture does.
        if lengths != {size + 8}:
            raise SystemExit(f"{place} has {lengths} bytes instead of {size + 8}")
        return taken

    compare(
        "download",
        lambda size: fetched(size, places[size][0]),
        lambda size: fetched(size, places[size][1]),
    )


def main() -> int:
    """Measures everything; answers the exit code."""
    if is_missing("nginx"):
        return 2
    with stage(("harbour", RAW)) as on, contextlib.ExitStack() as stack:
        server = stack.enter_context(served(on, "harbour"))
        other = stack.enter_context(served(on, RAW))
        token = first_caller(server)
        ours = client_of(server, token)
        uploads(ours, client_of(other, token), on.files)
        downloads(ours, on.files / "published")
    return 0


if __name__ == "__main__":
    sys.exit(main())
