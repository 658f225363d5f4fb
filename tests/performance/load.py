"""Starts the clients of a benchmark and reads what they found."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from tests.performance.serving import Server
from tests.services import ROOT

_CONNECTIONS = 32


@dataclass(frozen=True)
class Rate:
    """What a server did under full load.

    Attributes:
        requests: answered in a second.
        cost: CPU time that the workers took for one, in microseconds.
    """

    requests: float
    cost: float


def start(kind: str, orders: dict[str, Any]) -> subprocess.Popen[str]:
    """Start a client."""
    command = [sys.executable, "-m", "tests.performance.clients", kind]
    client = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert client.stdin
    client.stdin.write(json.dumps(orders))
    client.stdin.close()
    client.stdin = None
    return client


def result(client: "subprocess.Popen[str]") -> list[float]:
    """Wait for a client; answer the seconds of its requests."""
    output, _ = client.communicate(timeout=300)
    if client.returncode:
        raise SystemExit("A client failed.")
    taken: list[float] = json.loads(output)
    return taken


def client(kind: str, orders: dict[str, Any]) -> list[float]:
    """Run a client."""
    return result(start(kind, orders))


def full_load(server: Server, url: str, token: str, seconds: int, *options: str) -> Rate:
    """Ask a server for an address of it as fast as it answers, with further options of wrk."""
    before = server.seconds()
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "--timeout=10s"]
    header = ["-H", f"Authorization: Bearer {token}"]
    answer = subprocess.run(
        [*command, *header, *options, url],
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
    ).stdout
    spent = server.seconds() - before
    count = re.search(r"(\d+) requests in", answer)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", answer)
    if "Non-2xx" in answer or "Socket errors" in answer or not count or not rate:
        raise SystemExit(answer)
    return Rate(float(rate[1]), spent / int(count[1]) * 1_000_000)
