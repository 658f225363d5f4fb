"""Measures live messages on this machine: ``make bench-realtime``.

Two workers each, under Gunicorn with the roles' settings, on a real Redis: the service with
everything on, and a bare handler that publishes what a client says and sends on what was
published (``tests.performance.rooms``). All sockets hear each text; the texts are said one after
the other, or all at once. Told are the texts delivered in a second and the CPU time of the workers
for one, as medians of rounds that take turns, and their ratios.
"""

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from tests.performance.serving import Server, first_caller, served, stage
from tests.performance.telling import say
from tests.services import ROOT

ROUNDS = 9
SOCKETS = 200
TEXTS = 100
PROTOCOL = "harbour.v1"
_PATIENCE = 60
# The limits count, and none is reached.
BOUNDS = {
    "APP_WEBSOCKET_MESSAGES_PER_SECOND": "1000000",
    "APP_WEBSOCKET_MESSAGE_BURST": "1000000",
    "APP_WEBSOCKET_BYTES_PER_SECOND": "1000000000",
    "APP_WEBSOCKET_BYTE_BURST": "30000000",
    "APP_WEBSOCKET_QUEUE": "100000",
    "APP_WEBSOCKET_QUEUE_BYTES": "100000000",
    "APP_WEBSOCKETS_PER_ACCOUNT": "100000",
}


@dataclass(frozen=True)
class Round:
    """What one round came to.

    Attributes:
        deliveries: in a second.
        cost: CPU time of the workers for one, in microseconds.
    """

    deliveries: float
    cost: float


@dataclass(frozen=True)
class Crowd:
    """The clients of one server."""

    server: Server
    process: subprocess.Popen[str]

    def hear(self, at_once: int) -> Round:
        """Let some texts be said, so many at once, and heard by all."""
        assert self.process.stdin
        assert self.process.stdout
        before = self.server.seconds()
        self.process.stdin.write(f"{TEXTS} {at_once}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("The clients have failed.")
        spent, count = self.server.seconds() - before, SOCKETS * TEXTS
        return Round(count / float(line), spent / count * 1_000_000)


def main() -> int:
    """Measure, and tell the medians; answer the exit code."""
    with stage() as on, contextlib.ExitStack() as stack:
        service = stack.enter_context(served(on, "harbour", environment=BOUNDS))
        bare = stack.enter_context(served(on, "room", "rooms"))
        crowds = {
            "bare handler": stack.enter_context(crowd(bare, [PROTOCOL] * SOCKETS)),
            "the service": stack.enter_context(crowd(service, tickets(service))),
        }
        for at_once in (1, TEXTS):
            rounds: dict[str, list[Round]] = {name: [] for name in crowds}
            for number in range(ROUNDS + 1):
                for name, one in crowds.items():
                    found = one.hear(at_once)
                    # In the first round nothing is warm.
                    if number:
                        rounds[name].append(found)
            tell(rounds, at_once)
    return 0


def tickets(server: Server) -> list[str]:
    """Return what each socket offers the service."""
    headers = {"Authorization": f"Bearer {first_caller(server)}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        answers = [client.post("/api/v1/realtime/ticket") for _ in range(SOCKETS)]
    return [f"{PROTOCOL}, ticket.{one.raise_for_status().json()['ticket']}" for one in answers]


@contextlib.contextmanager
def crowd(server: Server, offered: list[str]) -> Iterator[Crowd]:
    """Open the sockets in a process of their own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.performance.listeners"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin
        assert process.stdout
        orders = {"port": server.port, "offered": offered, "patience": _PATIENCE}
        process.stdin.write(json.dumps(orders) + "\n")
        process.stdin.flush()
        if process.stdout.readline() != "open\n":
            raise SystemExit("The clients were not let in.")
        yield Crowd(server, process)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def tell(rounds: dict[str, list[Round]], at_once: int) -> None:
    """Tell the medians of the rounds, and their ratios to the bare handler's."""
    median = statistics.median
    base = rounds["bare handler"]
    say(f"{SOCKETS} sockets, {TEXTS} texts, {at_once} at once; medians of {ROUNDS} rounds")
    for name, found in rounds.items():
        pairs = list(zip(found, base, strict=True))
        rate = [one.deliveries / other.deliveries for one, other in pairs]
        cost = [one.cost / other.cost for one, other in pairs]
        say(
            f"{name:14} {median(one.deliveries for one in found):9.0f} deliveries/s "
            f"{median(rate):5.2f} ({min(rate):.2f} to {max(rate):.2f})   "
            f"{median(one.cost for one in found):6.1f} µs of CPU each, "
            f"{median(cost):.2f} ({min(cost):.2f} to {max(cost):.2f}) of the bare handler's work"
        )


if __name__ == "__main__":
    sys.exit(main())
