"""The clean-ups: whatever has piled up goes, in batches, and none of them keeps the others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest

from app.db import Database
from app.job_handlers import clean_up
from app.jobs import housekeeping
from app.jobs.handlers import JobResources
from app.mail import Mailer
from app.settings import Settings
from tests.app.conftest import RunSql
from tests.services import OWNER, PostgreSQL

ROWS = 20
OLD = {
    "sessions": "(id, user_id, kind, scopes, expires_at) SELECT n, 1, 'token', '', {past}",
    "refresh_tokens": "(session_id, token_hash, nonce, expires_at) SELECT 99, {name}, '', {past}",
    "mail_tokens": "(user_id, purpose, token_hash, email, expires_at) SELECT 1, '', {name}, '', "
    "{past}",
    "api_keys": "(user_id, name, prefix, key_hash, scopes, expires_at) SELECT 1, '', '', {name}, "
    "'', {past}",
    "login_counters": "(subject, client) SELECT {name}, ''",
    "audit_events": "(event, at) SELECT 'old', {past}",
    "procrastinate_jobs": "(queue_name, task_name, status) SELECT 'default', 'old', 'failed'",
    "job_failures": "(job_id, error) SELECT 1000 + n, ''",
}
SLOW = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$"


@pytest.fixture
async def resources(
    empty: None, settings_with: Callable[..., Settings]
) -> AsyncIterator[JobResources]:
    settings = settings_with(database_statement_timeout=1.2)
    resources = JobResources(settings, Database(settings), Mailer(settings))
    yield resources
    await resources.close()


@pytest.fixture
def trigger(empty: None, sql: RunSql) -> Iterator[Callable[[str, str], str]]:
    """Do something for each row that is deleted from a table."""

    def add(table: str, body: str) -> str:
        function = SLOW.format(body=body).replace("slow()", f"slow_{table}()")
        return sql(
            f"{function}; CREATE TRIGGER slow BEFORE DELETE ON {table} FOR EACH ROW "
            f"EXECUTE FUNCTION slow_{table}()"
        )

    yield add
    for table in OLD:
        sql(f"DROP TRIGGER IF EXISTS slow ON {table}; DROP FUNCTION IF EXISTS slow_{table}()")


def pile_up(sql: RunSql) -> None:
    """Put old rows into each table that is cleaned up."""
    sql("INSERT INTO users (username, email, password_hash) VALUES ('ann', 'a@example.com', '')")
    sql(
        "INSERT INTO sessions (id, user_id, kind, scopes, expires_at) "
        "VALUES (99, 1, 'token', '', now() + interval '1 day')"
    )
    for table, columns in OLD.items():
        filled = columns.format(name="n::text::bytea", past="now() - interval '500 days'")
        sql(f"INSERT INTO {table} {filled} FROM generate_series(1, {ROWS}) AS n")
    sql("UPDATE procrastinate_events SET at = now() - interval '31 days'")


def left(sql: RunSql) -> dict[str, int]:
    return {table: int(sql(f"SELECT count(*) FROM {table}")) for table in OLD}


async def test_more_than_one_statement_can_delete_goes_in_batches(
    resources: JobResources, sql: RunSql, trigger: Callable[[str, str], str]
) -> None:
    pile_up(sql)
    for table in OLD:
        trigger(table, "PERFORM pg_sleep(0.1); RETURN OLD;")
    await clean_up(resources, batch=4)
    await housekeeping.delete_ended(resources, batch=4)
    assert left(sql) == {**dict.fromkeys(OLD, 0), "sessions": 1}


async def test_a_clean_up_that_fails_does_not_keep_the_others(
    resources: JobResources, sql: RunSql, trigger: Callable[[str, str], str]
) -> None:
    pile_up(sql)
    trigger("refresh_tokens", "RAISE EXCEPTION 'no'; RETURN OLD;")
    trigger("api_keys", "RAISE EXCEPTION 'no'; RETURN OLD;")
    with pytest.raises(Exception, match="no"):
        await clean_up(resources)
    rows = left(sql)
    assert (rows["refresh_tokens"], rows["api_keys"]) == (ROWS, ROWS)
    assert (rows["mail_tokens"], rows["login_counters"], rows["audit_events"]) == (0, 0, 0)


async def test_what_was_deleted_before_a_failure_stays_so(
    resources: JobResources, sql: RunSql, trigger: Callable[[str, str], str]
) -> None:
    pile_up(sql)
    # The third batch meets what cannot be deleted in time.
    body = "IF OLD.id = 10 THEN PERFORM pg_sleep(10); END IF; RETURN OLD;"
    trigger("mail_tokens", body)
    with pytest.raises(Exception, match=r"."):
        await clean_up(resources, batch=4)
    assert left(sql)["mail_tokens"] == ROWS - 8


async def test_a_counter_in_use_is_left_for_the_next_time(
    resources: JobResources, sql: RunSql, postgresql: PostgreSQL
) -> None:
    pile_up(sql)
    login: Any = await asyncpg.connect(host=str(postgresql.folder), user=OWNER, database="harbour")
    async with login.transaction():
        await login.execute("SELECT * FROM login_counters WHERE subject = '7' FOR UPDATE")
        await asyncio.wait_for(clean_up(resources), 20)
        assert sql("SELECT convert_from(subject, 'UTF8') FROM login_counters") == "7"
    await login.close()
    await clean_up(resources)
    assert left(sql)["login_counters"] == 0
