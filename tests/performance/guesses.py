"""Whether the time of an answer tells what is the matter with an account."""

import hashlib
import random
import statistics
from collections.abc import Sequence
from typing import Any

from tests.performance.load import client
from tests.performance.serving import PASSWORD, Server, Stage

LOGIN_SAMPLES, RESET_SAMPLES = 250, 400
# Medians may differ by so much.
BOUND = 0.15
WRONG = "Windlass-and-4-anchors"
Times = dict[str, list[float]]
KINDS = ("known", "locked", "deactivated")
LOGINS = ("known", "unknown", "locked", "deactivated")
RESETS = ("known", "unknown", "deactivated")


def compare(on: Stage, server: Server) -> tuple[list[str], bool]:
    """Measure both; answer the lines of the table, and whether all is within the bound."""
    fill(on)
    lines, good = [], True
    for what, kinds, make, samples in (
        ("login", LOGINS, login, LOGIN_SAMPLES),
        ("password reset", RESETS, reset, RESET_SAMPLES),
    ):
        taken = measure(server, kinds, make, samples)
        for kind in kinds[1:]:
            line, within = compared(what, kind, taken["known"], taken[kind])
            lines.append(line)
            good = good and within
    return lines, good


def fill(on: Stage) -> None:
    """Make an account for each sample, so that none is asked twice."""
    rows = [
        (kind, number)
        for kind in ("known", "locked", "deactivated")
        for number in range(RESET_SAMPLES)
    ]
    values = ", ".join(
        f"('{kind}{number}', '{kind}{number}@example.com', {str(kind != 'deactivated').lower()})"
        for kind, number in rows
    )
    on.postgresql.execute(
        "INSERT INTO users (username, email, is_active, password_hash) "
        "SELECT name, address, active, (SELECT password_hash FROM users WHERE id = 1) "
        f"FROM (VALUES {values}) AS made (name, address, active)",
        "harbour",
    )
    counters = ", ".join(
        f"('\\x{hashlib.sha256(f'login:locked{number}'.encode()).hexdigest()}', '', 5, now(), "
        "now() + interval '1 hour')"
        for number in range(RESET_SAMPLES)
    )
    on.postgresql.execute(
        "INSERT INTO login_counters (subject, client, failures, last_failed_at, locked_until) "
        f"VALUES {counters}; ANALYZE",
        "harbour",
    )


def login(kind: str, number: int) -> dict[str, Any]:
    """A login that fails; the password is right where that must not help."""
    password = PASSWORD if kind in {"locked", "deactivated"} else WRONG
    form = {"username": f"{kind}{number}", "password": password}
    return {"path": "/api/v1/auth/token", "body": {"data": form}, "status": 401}


def reset(kind: str, number: int) -> dict[str, Any]:
    """A request for a mail."""
    address = {"email": f"{kind}{number}@example.com"}
    path = "/api/v1/users/password-reset/request"
    return {"path": path, "body": {"json": address}, "status": 202}


def measure(
    server: Server, kinds: Sequence[str], make: Any, samples: int
) -> dict[str, list[float]]:
    """Ask for all kinds in turns, in an order that changes."""
    asked: list[str] = []
    requests: list[dict[str, Any]] = []
    for number in range(samples):
        for kind in random.sample(kinds, len(kinds)):
            asked.append(kind)
            requests.append(make(kind, number))
    taken = client("ask", {"url": server.url, "requests": requests})
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    # The first ones warm up.
    for kind, seconds in list(zip(asked, taken, strict=True))[len(kinds) * 5 :]:
        found[kind].append(seconds)
    return found


def compared(
    what: str, kind: str, known: Sequence[float], other: Sequence[float]
) -> tuple[str, bool]:
    """Tell the ratio of the medians, its interval, and how often the slower one could be told."""
    ratio = statistics.median(other) / statistics.median(known)
    drawn = sorted(
        statistics.median(random.choices(other, k=len(other)))
        / statistics.median(random.choices(known, k=len(known)))
        for _ in range(2000)
    )
    low, high = drawn[50], drawn[-50]
    pairs = len(known) * len(other)
    # Mann-Whitney: 50 % means that one answer tells nothing.
    slower = sum(one > two for one in other for two in known) / pairs
    within = abs(ratio - 1) <= BOUND
    line = (
        f"{what}: {kind} to known {statistics.median(known) * 1000:5.1f} ms  ratio {ratio:.3f} "
        f"(95 %: {low:.3f} to {high:.3f})  slower in {slower:.0%} of pairs"
    )
    return line if within else f"{line}  BEYOND THE BOUND", within
