"""Jobs as features ask for them, and what is kept of them."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from app.db import Database
from app.errors import UnavailableError
from app.job_handlers import handlers
from app.jobs import housekeeping
from app.jobs.handlers import Handlers, JobResources, UnknownJobError, own_retries
from app.jobs.queue import connection_arguments
from app.jobs.retries import Retries
from app.jobs.running import Attempt, logged, places
from app.jobs.service import Jobs
from app.log import configure
from app.mail import Mailer
from app.settings import Settings
from tests.services import ROOT

SettingsWith = Callable[..., Settings]
Sql = Callable[[str], str]


async def greet(resources: JobResources, to: str, number: int = 0) -> None:
    """Do what a feature's job could do."""


HANDLERS: Handlers = {"test.greet": greet}
COUNT = "SELECT count(*) FROM procrastinate_jobs"


class StopError(Exception):
    """Ends a transaction."""


async def enqueue_and_fail(database: Database, jobs: Jobs, name: str, to: str) -> None:
    async with database.writing() as session:
        await jobs.enqueue(session, name, to=to)
        raise StopError


def fail_with(error: Exception, cause: Exception | None = None) -> None:
    if cause is None:
        raise error
    try:
        fail_with(cause)
    except KeyError as caught:
        raise error from caught


@pytest.fixture
async def database(empty: None, settings_with: SettingsWith) -> AsyncIterator[Database]:
    made = Database(settings_with())
    yield made
    await made.close()


@pytest.fixture
def jobs(settings_with: SettingsWith) -> Jobs:
    return Jobs(settings_with(), HANDLERS)


async def test_a_job_is_stored_with_the_transaction(
    database: Database, jobs: Jobs, sql: Sql
) -> None:
    with pytest.raises(StopError):
        await enqueue_and_fail(database, jobs, "test.greet", "a@example.com")
    assert sql(COUNT) == "0"
    async with database.writing() as session:
        await jobs.enqueue(session, "test.greet", to="ä%:'\"@example.com", number=7)
        assert await asyncio.to_thread(sql, COUNT) == "0"
    row = sql("SELECT queue_name, task_name, args, status FROM procrastinate_jobs")
    queue, name, arguments, status = row.split("|")
    assert (queue, name, status) == ("default", "test.greet", "todo")
    assert json.loads(arguments) == {"to": "ä%:'\"@example.com", "number": 7}


async def test_a_job_remembers_its_request(database: Database, jobs: Jobs, sql: Sql) -> None:
    with structlog.contextvars.bound_contextvars(request_id="the-request"):
        async with database.writing() as session:
            await jobs.enqueue(session, "test.greet", to="a")
    assert json.loads(sql("SELECT args FROM procrastinate_jobs")) == {
        "to": "a",
        "_request_id": "the-request",
    }


async def test_what_cannot_be_done_is_not_asked_for(
    database: Database, jobs: Jobs, sql: Sql
) -> None:
    with pytest.raises(UnknownJobError, match=r"add its handler to app/job_handlers\.py"):
        async with database.writing() as session:
            await jobs.enqueue(session, "test.unknown", to="a")
    wrong: list[dict[str, str | int]] = [{}, {"to": "a", "more": 1}]
    for arguments in wrong:
        with pytest.raises(TypeError, match=r"The handler of the job test\.greet"):
            async with database.writing() as session:
                await jobs.enqueue(session, "test.greet", **arguments)
    assert sql(COUNT) == "0"


@pytest.fixture
def development(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return Settings(environment="development", log_output="json")


async def test_development_does_jobs_itself(
    development: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []

    async def remember(resources: JobResources, to: str) -> None:
        await asyncio.sleep(0.01)
        done.append(to)

    async def fail(resources: JobResources) -> None:
        message = "secret"
        raise ValueError(message)

    configure(development)
    jobs = Jobs(development, {"test.remember": remember, "test.fail": fail})
    database = Database(development)
    with pytest.raises(StopError):
        await enqueue_and_fail(database, jobs, "test.remember", "nobody")
    with structlog.contextvars.bound_contextvars(request_id="the-request"):
        async with database.writing() as session:
            await jobs.enqueue(session, "test.remember", to="somebody")
            await jobs.enqueue(session, "test.fail")
            assert done == []
    await jobs.close()
    await database.close()
    assert done == ["somebody"]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {(line["event"], line["job"], line["request_id"]) for line in lines} == {
        ("job.done", "test.remember", "the-request"),
        ("job.failed", "test.fail", "the-request"),
    }
    assert "secret" not in json.dumps(lines)


@pytest.fixture
async def resources(database: Database, settings_with: SettingsWith) -> JobResources:
    settings = settings_with()
    return JobResources(settings, database, Mailer(settings))


RUNNING = (
    "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '{age} seconds');"
    "INSERT INTO procrastinate_jobs (queue_name, task_name, status, attempts, worker_id) SELECT "
    "'default', 'test.greet', 'doing', {attempts}, max(id) FROM procrastinate_workers"
)


async def test_jobs_of_workers_that_are_silent_are_done_again(
    resources: JobResources, sql: Sql
) -> None:
    for age, attempts in ((60, 0), (60, 9), (5, 0)):
        sql(RUNNING.format(age=age, attempts=attempts))
    sql(f"{RUNNING.format(age=60, attempts=1)}; DELETE FROM procrastinate_workers WHERE id = 4")
    # Several workers look at once.
    await asyncio.gather(*(housekeeping.requeue_stalled(resources, {}) for _ in range(4)))
    rows = sql("SELECT id, status, attempts FROM procrastinate_jobs ORDER BY id").splitlines()
    assert rows == ["1|todo|1", "2|failed|10", "3|doing|0", "4|todo|2"]


async def test_a_job_that_has_fewer_attempts_is_not_given_to_further_workers(
    resources: JobResources, sql: Sql
) -> None:
    for attempts in (1, 2):
        sql(RUNNING.format(age=60, attempts=attempts))
    await housekeeping.requeue_stalled(resources, {"test.greet": Retries(attempts=3)})
    rows = sql("SELECT id, status, attempts FROM procrastinate_jobs ORDER BY id").splitlines()
    assert rows == ["1|todo|2", "2|failed|3"]


def test_who_waits_for_a_report_waits_a_few_minutes() -> None:
    (retries,) = own_retries(handlers).values()
    rests = [retries.rest(attempt) for attempt in range(1, retries.attempts)]
    assert 180 < sum(rests) < 420


async def test_only_old_failures_are_forgotten(resources: JobResources, sql: Sql) -> None:
    for status, days in (("failed", 31), ("failed", 29), ("todo", 31), ("aborted", 31)):
        sql(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status) "
            f"VALUES ('default', '{status}{days}', '{status}');"
            "INSERT INTO procrastinate_events (job_id, type, at) SELECT max(id), 'failed', "
            f"now() - interval '{days} days' FROM procrastinate_jobs"
        )
    sql("UPDATE procrastinate_events SET at = now() - interval '31 days' WHERE type = 'deferred'")
    await housekeeping.delete_ended(resources)
    left = sql("SELECT task_name FROM procrastinate_jobs ORDER BY id").splitlines()
    assert left == ["failed29", "todo31"]


def test_each_rest_is_longer_than_the_one_before() -> None:
    retries = Retries()
    for _ in range(100):
        rests = [retries.rest(attempt) for attempt in range(1, retries.attempts)]
        assert rests == sorted(rests)
        assert 7.5 <= rests[0] <= 12.5
        assert sum(rests) > 3600
    assert retries.rest(40) <= 3600
    assert not retries.is_last(9)
    assert retries.is_last(10)


async def test_a_failure_says_where_and_not_with_what(
    development: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(development)
    for last, error in ((False, ValueError("anna")), (True, UnavailableError("Try later."))):
        with contextlib.suppress(ValueError, UnavailableError):
            async with logged(Attempt("test.fail", 5, 3, last, "the-request")):
                fail_with(error)
    retried, failed = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert "anna" not in json.dumps([retried, failed])
    assert (retried["event"], retried["level"]) == ("job.retried", "warning")
    assert "test_jobs.py" in retried["exception"]
    assert (failed["event"], failed["level"]) == ("job.failed", "error")
    assert failed["message"].endswith("Try later.")
    assert (failed["job_id"], failed["attempt"], failed["job"]) == (5, 3, "test.fail")


def test_the_cause_of_a_failure_is_told() -> None:
    try:
        fail_with(ValueError("anna"), KeyError("anna"))
    except ValueError as error:
        told = "\n".join(places(error))
    assert "builtins.ValueError at" in told
    assert "builtins.KeyError at" in told
    assert "anna" not in told


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql+asyncpg://harbour@/harbour?host=/run/postgresql",
            {"host": "/run/postgresql", "user": "harbour", "dbname": "harbour"},
        ),
        (
            "postgresql+asyncpg://harbour@db.example.com:5433/harbour?ssl=require",
            {"host": "db.example.com", "port": 5433, "password": "p", "sslmode": "require"},
        ),
    ],
)
def test_the_worker_connects_as_the_service_does(
    settings_with: SettingsWith, url: str, expected: dict[str, Any]
) -> None:
    settings = settings_with(database_url=url, database_password="p")
    arguments = connection_arguments(settings)
    assert expected.items() <= arguments.items()
    assert arguments["options"] == "-c statement_timeout=10000"


def test_the_service_does_without_the_package_of_the_worker() -> None:
    """It costs each process memory, and a request stores its job by SQLAlchemy."""
    script = "import sys, app.main; sys.exit('procrastinate' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
