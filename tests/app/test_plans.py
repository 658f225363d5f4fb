"""How PostgreSQL finds what the catalogue asks it for, in a million items.

The server itself writes down the plans of the service's own statements (auto_explain), which may
be other ones than those of statements that are explained by hand.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import client_of
from tests.services import OWNER, PostgreSQL, RedisServer, alembic
from tests.statements import recorded

ITEMS, BOOKS, OWNERS = 1_000_000, 200_000, 1_000
DATABASE = "plans"
# Several times as often as PostgreSQL plans a statement anew before it may keep one plan for all
# values (https://www.postgresql.org/docs/current/sql-prepare.html).
TIMES = 15
FILL = f"""
DROP INDEX ix_items_title_search, ix_books_author_search;
INSERT INTO users (username, email, password_hash)
    SELECT 'user' || n, 'user' || n || '@example.com', '' FROM generate_series(1, {OWNERS}) AS n;
INSERT INTO items (owner_id, title, price)
    SELECT 1 + n % {OWNERS}, 'Lamp ' || lpad(to_hex(n::bigint * 7919 % 16777216), 6, '0'), 1
    FROM generate_series(1, {ITEMS}) AS n;
INSERT INTO books (owner_id, title, author, isbn, price)
    SELECT 1 + n % {OWNERS}, 'Emma', 'Author ' || lpad(to_hex(n::bigint * 7919 % 16777216), 6, '0'),
        9780000000000 + n, 1
    FROM generate_series(1, {BOOKS}) AS n;
SET maintenance_work_mem = '256MB';
CREATE INDEX ix_items_title_search ON items USING gin (lower(title) gin_trgm_ops);
CREATE INDEX ix_books_author_search ON books USING gin (lower(author) gin_trgm_ops);
"""
EXPLAINED = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_format": "json",
}


@pytest.fixture(scope="module")
async def url(postgresql: PostgreSQL) -> str:
    """A database of its own with a large catalogue."""
    name = postgresql.create_database(DATABASE)
    result = await asyncio.to_thread(alembic, postgresql.url(name, OWNER), "upgrade", "head")
    assert result.returncode == 0, result.stderr
    connection = await asyncpg.connect(host=str(postgresql.folder), user=OWNER, database=name)
    await connection.execute(FILL)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    for setting, value in EXPLAINED.items():
        postgresql.execute(f"ALTER ROLE harbour IN DATABASE {name} SET {setting} = '{value}'")
    return postgresql.url(name)


class Plans:
    """What the server writes down of the statements of one instance."""

    def __init__(self, client: httpx.AsyncClient, log: Path, blocks_of_items: int) -> None:
        self.client = client
        self.blocks_of_items = blocks_of_items
        self._log = log

    async def of(self, path: str) -> tuple[httpx.Response, dict[str, Any]]:
        """Ask often enough for the server to have decided, and return the last answer and plan."""
        for _ in range(TIMES):
            answer, found = await self.asked(path)
        (plan,) = found
        return answer, plan

    async def asked(self, path: str) -> tuple[httpx.Response, list[dict[str, Any]]]:
        """Ask, and return the answer and the plans that it took."""
        read = self._log.stat().st_size
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        with self._log.open("rb") as log:
            log.seek(read)
            return answer, [one["Plan"] for one in plans_in(log.read().decode())]


def plans_in(log: str) -> Iterator[dict[str, Any]]:
    """Read the plans of a log, each of which begins after the line that tells of it."""
    lines = iter(log.splitlines())
    for line in lines:
        if not line.rstrip().endswith("plan:"):
            continue
        text = ""
        for part in lines:
            text += part
            if part == "\t}":
                break
        yield json.loads(text)


@pytest.fixture(scope="module")
async def plans(
    url: str,
    postgresql: PostgreSQL,
    redis_server: RedisServer,
    settings_with: Callable[..., Settings],
) -> AsyncIterator[Plans]:
    chosen = settings_with(database_url=url, database_read_pool_size=1, limit_search="")
    async with client_of(create_app(chosen)) as client:
        await client.get("/api/v1/items?cursor=0")
        size = await asyncio.to_thread(
            postgresql.execute, "SELECT relpages FROM pg_class WHERE relname = 'items'", DATABASE
        )
        yield Plans(client, postgresql.folder / "log", int(size))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def indexes(plan: dict[str, Any]) -> set[str]:
    return {node["Index Name"] for node in nodes(plan) if "Index Name" in node}


def scans(plan: dict[str, Any]) -> set[str]:
    """The tables that are read from one end to the other."""
    return {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}


def blocks(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def without_total(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What finds the page itself."""
    yield plan
    for below in plan.get("Plans", ()):
        if below.get("Parent Relationship") != "InitPlan":
            yield from without_total(below)


async def test_a_page_by_cursor_reads_as_little_at_its_end_as_at_its_beginning(
    plans: Plans,
) -> None:
    first, beginning = await plans.of("/api/v1/items?cursor=0&limit=20")
    last, end = await plans.of(f"/api/v1/items?cursor={ITEMS - 20}&limit=20")
    assert len(first.json()["items"]) == len(last.json()["items"]) == 20
    for plan in (beginning, end):
        assert "pk_items" in indexes(plan)
        assert "items" not in scans(plan)
    assert blocks(end) <= 2 * blocks(beginning)


async def test_a_page_by_its_number_is_read_in_the_order_of_the_index(plans: Plans) -> None:
    answer, plan = await plans.of("/api/v1/items?limit=20")
    assert answer.json()["total"] == ITEMS
    page = list(without_total(plan))
    assert "pk_items" in {node.get("Index Name") for node in page}
    assert not {node.get("Relation Name") for node in page if node["Node Type"] == "Seq Scan"} - {
        "users"
    }
    assert not [node for node in page if node["Node Type"] == "Sort"]


@pytest.mark.parametrize("more", ["", "&cursor=0"])
async def test_a_search_is_served_by_its_index(plans: Plans, more: str) -> None:
    answer, plan = await plans.of(f"/api/v1/items?search=LAMP%20001eef{more}")
    assert [item["title"] for item in answer.json()["items"]] == ["Lamp 001eef"]
    assert "ix_items_title_search" in indexes(plan)
    assert "items" not in scans(plan)
    assert blocks(plan) < plans.blocks_of_items / 4


async def test_a_search_for_what_is_everywhere_by_cursor_reads_one_page(plans: Plans) -> None:
    answer, plan = await plans.of("/api/v1/items?search=lamp&cursor=500000")
    assert len(answer.json()["items"]) == 20
    assert blocks(plan) < 1000


async def test_books_of_an_author_are_served_by_their_index(plans: Plans) -> None:
    answer, plan = await plans.of("/api/v1/books?author=author%20001eef")
    assert [book["author"] for book in answer.json()["books"]] == ["Author 001eef"]
    assert "ix_books_author_search" in indexes(plan)
    assert "books" not in scans(plan)
    assert blocks(plan) < 1000


async def test_one_item_is_found_with_its_owner(plans: Plans) -> None:
    # It comes from the cache otherwise.
    for number in range(TIMES):
        answer, found = await plans.asked(f"/api/v1/items/{500_000 + number}")
        (plan,) = found
        assert answer.json()["owner"]["username"] == f"user{answer.json()['owner_id']}"
    assert indexes(plan) == {"pk_items", "pk_users"}
    assert blocks(plan) < 12


@pytest.mark.parametrize("table", ["items", "books"])
async def test_what_an_account_owns_is_found_by_its_index(
    plans: Plans, postgresql: PostgreSQL, table: str
) -> None:
    # The statement of the foreign key, when an account is deleted.
    plan = await asyncio.to_thread(
        postgresql.execute, f"EXPLAIN DELETE FROM ONLY {table} WHERE owner_id = 77", DATABASE
    )
    assert f"ix_{table}_owner_id" in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize(
    "path", ["items", "items?cursor=0", "items?search=lamp%2000", "books", "books?author=or%2000"]
)
async def test_a_list_with_its_owners_and_its_total_is_one_statement(
    url: str,
    postgresql: PostgreSQL,
    settings_with: Callable[..., Settings],
    path: str,
) -> None:
    with recorded(postgresql) as statements:
        chosen = settings_with(database_url=url, database_read_pool_size=1)
        async with client_of(create_app(chosen)) as client:
            await client.get("/api/v1/items?cursor=0")
            statements.new()
            answer = (await client.get(f"/api/v1/{path}")).json()
            (statement,) = statements.new()
    assert statement.startswith("SELECT")
    (found,) = (answer[key] for key in ("items", "books") if key in answer)
    assert len(found) == 20
    if "items" in answer:
        assert all(one["owner"]["id"] == one["owner_id"] for one in found)
