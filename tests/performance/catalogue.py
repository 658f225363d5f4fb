"""Measures the catalogue and its cache on this machine: ``make bench-catalogue``.

The service runs as for ``make bench-accounts``: Gunicorn with the roles' settings and two workers,
real PostgreSQL and Redis, its log going to a socket, every limit counting, behind Nginx. Beside it
runs a plain ASGI application under the same server, which sends the same statements and asks the
cache as often, and does no more. Told are their requests a second in rounds that take turns, and
the ratio of each pair:

- a list, and an item: from the database into the cache, from the cache, and as 304;
- a new item;
- the page by cursor that ends a million items, to the first one.
"""

import asyncio
import contextlib
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import httpx

from tests.performance.load import Rate, full_load
from tests.performance.serving import Server, Stage, first_caller, served, stage
from tests.performance.telling import is_missing, say
from tests.services import OWNER

ROUNDS = 7
ROUND_SECONDS = 2
MANY = 1_000_000
PAGE = 20
# More than are asked for in a round.
_FRESH = 50_000
_LIST = "/api/v1/items"
_APPLICATIONS = ("harbour", "bare_catalogue")
_CREATE = """
wrk.method = "POST"
wrk.body = '{"title": "An anchor", "price": "9.99"}'
wrk.headers["Content-Type"] = "application/json"
"""
# Each request asks for another item, which nobody has asked for yet.
_ANOTHER = """
local item = FIRST
request = function()
    item = item + 1
    return wrk.format("GET", "/api/v1/items/" .. item)
end
"""
_FILL = f"""
DROP INDEX ix_items_title_search;
INSERT INTO items (owner_id, title, description, price)
    SELECT 1, 'Anchor ' || n, repeat('Of iron. ', 5), 9.99
    FROM generate_series(1, {MANY} - (SELECT count(*) FROM items)) AS n;
SET maintenance_work_mem = '256MB';
CREATE INDEX ix_items_title_search ON items USING gin (lower(title) gin_trgm_ops);
"""
Options = Callable[[int], tuple[str, ...]]


@dataclass(frozen=True)
class Pair:
    """The bare handler and the service, and how both are asked."""

    bare: Server
    harbour: Server
    token: str
    folder: Path

    def script(self, name: str, text: str) -> tuple[str, ...]:
        """Write a script of wrk, and return the options that name it."""
        path = self.folder / f"{name}.lua"
        path.write_text(text)
        return ("-s", str(path))

    def load(self, one: Server, path: str, options: Sequence[str] = ()) -> Rate:
        """Ask one of them by way of Nginx."""
        return full_load(one, f"{one.front_url}{path}", self.token, ROUND_SECONDS, *options)


def main() -> int:
    """Measures everything; answers the exit code."""
    if is_missing("wrk", "nginx"):
        return 2
    say(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    with stage(_APPLICATIONS) as on, contextlib.ExitStack() as stack:
        harbour, bare = (stack.enter_context(served(on, name)) for name in _APPLICATIONS)
        pair = Pair(bare, harbour, first_caller(harbour), on.folder)
        say(f"{'behind Nginx, 32 connections':40} bare/s service/s  ratio  CPU of both a request")
        few(pair)
        asyncio.run(fill(on))
        many(pair, on)
    say(f"load of the machine after, its own included: {os.getloadavg()[0]:.1f}")
    return 0


def few(pair: Pair) -> None:
    """Measures what does not depend on how many items there are."""
    compare(pair, "GET /items, 20 of 40 with their total", _LIST)
    compare(pair, "GET /items/1 from the cache", f"{_LIST}/1")
    tag = httpx.get(f"{pair.harbour.url}{_LIST}/1").headers["etag"]
    known = ("-H", f"If-None-Match: {tag}")
    compare(pair, "GET /items/1, 304", f"{_LIST}/1", lambda _: known)
    create = pair.script("create", _CREATE)
    compare(pair, "POST /items", _LIST, lambda _: create)


def many(pair: Pair, on: Stage) -> None:
    """Measures what needs a million items."""

    def another(number: int) -> tuple[str, ...]:
        first = str(100 + number * _FRESH)
        return pair.script("another", _ANOTHER.replace("FIRST", first))

    compare(pair, "GET /items/…, each for the first time", _LIST, another)
    first = f"{_LIST}?cursor=0"
    after = on.postgresql.execute(
        f"SELECT id FROM items ORDER BY id OFFSET {MANY - PAGE - 1} LIMIT 1", "harbour"
    )
    last = f"{_LIST}?cursor={after}"
    compare(pair, "GET /items?cursor=0, of 1,000,000", first)
    compare(pair, "GET /items?cursor=…, the last 20", last)
    ratios = []
    for number in range(ROUNDS + 1):
        beginning, end = (pair.load(pair.harbour, path) for path in (first, last))
        if number:
            ratios.append(end.requests / beginning.requests)
    spread = f"rounds {min(ratios):.2f} to {max(ratios):.2f}"
    say(f"the service's last page to its first one: {statistics.median(ratios):.2f} ({spread})")


def compare(pair: Pair, name: str, path: str, options: Options = lambda _: ()) -> None:
    """Tells one way to ask, in rounds that take turns."""
    rounds: list[tuple[Rate, Rate]] = []
    for number in range(ROUNDS + 1):
        bare, harbour = (pair.load(one, path, options(number)) for one in (pair.bare, pair.harbour))
        # In the first round connections are opened.
        if number:
            rounds.append((bare, harbour))
    ratios = [harbour.requests / bare.requests for bare, harbour in rounds]
    rates = [statistics.median(one[place].requests for one in rounds) for place in (0, 1)]
    costs = [statistics.median(one[place].cost for one in rounds) for place in (0, 1)]
    spread = f"rounds {min(ratios):.2f} to {max(ratios):.2f}"
    told = f"{rates[0]:6.0f} {rates[1]:9.0f} {statistics.median(ratios):6.2f}"
    say(f"{name:40} {told}  {costs[0]:.0f}, {costs[1]:.0f} µs   {spread}")


async def fill(on: Stage) -> None:
    """Store items until there are a million."""
    connection = await asyncpg.connect(
        host=str(on.postgresql.folder), user=OWNER, database="harbour"
    )
    await connection.execute(_FILL)
    await connection.execute("VACUUM ANALYZE items")
    await connection.close()


if __name__ == "__main__":
    sys.exit(main())
