"""Measures what accounts cost on this machine: ``make bench-accounts``.

The service runs as a host runs it: Gunicorn with the roles' settings and worker, two of them, on a
real PostgreSQL and Redis, with its log going to a socket and every limit counting. Told are

- the requests a second of authenticated reads, as a ratio to the same two statements on the bare
  driver and its pool, under the same server, behind the same Nginx and without it, in rounds that
  take turns;
- the statements that the database gets for a request, as its server writes them down;
- the 99th percentile of GET /health while twenty log in, as a multiple of that without them;
- the times of failing logins and of reset requests of each kind of account, to each other.

It ends with 1 when the answers' times tell accounts apart, or a statement is one too many.
"""

import contextlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import httpx

from tests.performance import guesses
from tests.performance.applications import PAGE
from tests.performance.load import Rate, client, full_load, result, start
from tests.performance.serving import APPLICATIONS, PASSWORD, Server, first_caller, served, stage
from tests.performance.telling import is_missing, say
from tests.statements import Statements, recorded

ROUNDS = 7
ROUND_SECONDS = 2
CROWD = 20
BARE = "two statements, bare driver"
KEPT = "two statements, bare driver, no reset"
READS = {
    BARE: ("bare", "/"),
    KEPT: ("kept", "/"),
    "token, user, 20 items; no limit, log, numbers": ("lean", PAGE),
    "token, user, 20 items": ("harbour", PAGE),
    "GET /users/me": ("harbour", "/api/v1/users/me"),
    "GET /items, no user": ("harbour", "/api/v1/items"),
    "GET /health": ("harbour", "/health"),
}


def main() -> int:
    """Measures everything; answers the exit code."""
    if is_missing("wrk", "nginx"):
        return 2
    with stage() as on:
        with recorded(on.postgresql) as statements, served(on, "harbour") as server:
            token = first_caller(server)
            right = count(server, token, statements)
        with contextlib.ExitStack() as stack:
            servers = {name: stack.enter_context(served(on, name)) for name in APPLICATIONS}
            compare_reads(servers, token)
        with served(on, "harbour") as server:
            crowd(server)
            lines, equal = guesses.compare(on, server)
            for line in lines:
                say(line)
    return 0 if right and equal else 1


def count(server: Server, token: str, statements: Statements) -> bool:
    """Tells the statements of a request; answers whether they are as few as can be."""
    item = {"title": "An anchor", "price": "9.99"}
    asks = {"GET": ("/api/v1/users/me", None, 1), "POST": ("/api/v1/items", item, 4)}
    right = True
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as caller:
        for method, (path, body, expected) in asks.items():
            # Both workers have to open their connections, after which the driver asks for types.
            for _ in range(40):
                caller.request(method, path, json=body).raise_for_status()
            statements.new()
            for _ in range(100):
                caller.request(method, path, json=body).raise_for_status()
            found = Counter(statement.split()[0].rstrip(";") for statement in statements.new())
            told = ", ".join(f"{number / 100:g} {name}" for name, number in sorted(found.items()))
            say(f"statements of {method} {path}: {told}")
            right = right and found.total() == expected * 100
    return right


def compare_reads(servers: Mapping[str, Server], token: str) -> None:
    """Tells the reads under full load, as ratios to the bare driver in the same round."""
    targets = {name: (servers[one], path) for name, (one, path) in READS.items()}
    for title, base in (("behind Nginx", "front_url"), ("without Nginx", "url")):
        rounds: dict[str, list[Rate]] = {name: [] for name in targets}
        for number in range(ROUNDS + 1):
            for name, (one, path) in targets.items():
                rate = full_load(one, f"{getattr(one, base)}{path}", token, ROUND_SECONDS)
                # In the first round connections are opened and caches filled.
                if number:
                    rounds[name].append(rate)
        tell(title, rounds)


def tell(title: str, rounds: Mapping[str, Sequence[Rate]]) -> None:
    """Tells the medians of some rounds."""
    say(f"{title:48} requests/s  ratio  CPU of the workers a request")
    median = statistics.median
    for name, rates in rounds.items():
        ratio = [
            one.requests / base.requests for one, base in zip(rates, rounds[BARE], strict=True)
        ]
        requests, spent = median(one.requests for one in rates), median(one.cost for one in rates)
        spread = f"rounds {min(ratio):.2f} to {max(ratio):.2f}"
        say(f"{name:48} {requests:10.0f} {median(ratio):6.2f} {spent:10.0f} µs   {spread}")


def crowd(server: Server) -> None:
    """Tells how slow /health becomes while twenty log in."""
    form = {"username": "sailor", "password": PASSWORD}
    orders = {"url": server.url, "seconds": ROUND_SECONDS}
    ratios, calm, busy, logins = [], [], [], 0
    for _ in range(ROUNDS):
        calm.append(percentile(client("probe", orders)))
        crowded = start(
            "log_in", {**orders, "seconds": 2 + ROUND_SECONDS, "at_once": CROWD, "form": form}
        )
        # The client takes a while to start.
        time.sleep(1)
        busy.append(percentile(client("probe", orders)))
        logins += len(result(crowded))
        ratios.append(busy[-1] / calm[-1])
    say(
        f"99th percentile of GET /health: {statistics.median(calm) * 1000:.1f} ms, while {CROWD} "
        f"log in {statistics.median(busy) * 1000:.1f} ms: {statistics.median(ratios):.1f} times "
        f"(rounds {min(ratios):.1f} to {max(ratios):.1f}, {logins} logins)"
    )


def percentile(taken: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(taken, n=100)[-1]


if __name__ == "__main__":
    sys.exit(main())
