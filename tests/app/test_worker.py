"""The worker as a process of its own, on a real database."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from fastapi import Request

import app.main
from app.dependencies import Transaction
from app.jobs.handlers import Periodic
from app.resources import Resources
from app.settings import Settings
from tests.app.conftest import client_of
from tests.app.worker_for_tests import handlers
from tests.app.workers import ADDRESS, OPTIONS, TIMEOUT, Enqueue, StartWorker, until
from tests.services import PostgreSQL

SettingsWith = Callable[..., Settings]
Sql = Callable[[str], str]

COUNT = "SELECT count(*) FROM procrastinate_jobs WHERE task_name LIKE 'test.%'"


async def test_a_job_of_a_request_is_done_and_both_name_it(
    start_worker: StartWorker,
    settings_with: SettingsWith,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(app.main, "handlers", handlers)
    application = app.main.create_app(settings_with(log_output="json"))

    @application.post("/greetings")
    async def greet(request: Request, session: Transaction) -> None:
        resources: Resources = request.app.state.resources
        await resources.jobs.enqueue(session, "test.write", to=ADDRESS, number=7)

    async with client_of(application) as client:
        answer = await client.post("/greetings", headers={"X-Request-ID": "the-request"})
    assert answer.status_code == 200
    served = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {"http.request"} == {
        line["event"] for line in served if line.get("request_id") == "the-request"
    }
    worker = start_worker()
    await until(lambda: worker.about("test.write"), worker)
    named = [line for line in worker.lines() if line.get("request_id") == "the-request"]
    assert [line["event"] for line in named] == ["test.written", "job.done"]
    line = named[-1]
    assert (line["job"], line["attempt"], line["level"]) == ("test.write", 1, "info")
    assert line["job_id"]
    assert line["duration_ms"] > 0
    assert worker.notes() == [["written", "7"]]
    await until(lambda: sql(COUNT) == "0", worker)
    assert worker.kill(signal.SIGTERM) == 0
    assert "anna" not in worker.text()
    assert "Traceback" not in worker.text()


async def test_the_job_of_a_killed_worker_is_done_by_another(
    start_worker: StartWorker, enqueue: Enqueue, sql: Sql
) -> None:
    # Both live from the start, so that the clock of the other one has to find the job.
    workers = {str(worker.process.pid): worker for worker in (start_worker(), start_worker())}
    for worker in workers.values():
        await until(lambda worker=worker: worker.lines("worker.started"), worker)  # type: ignore[misc]
    await enqueue("test.sleep", milliseconds=1500)
    await until(worker.notes, worker)
    ((_, pid),) = worker.notes()
    first = workers.pop(pid)
    ((other, second),) = workers.items()
    first.kill(signal.SIGKILL)
    await until(lambda: len(second.notes()) == 3, second)
    assert second.notes() == [["begun", pid], ["begun", other], ["ended", other]]
    await until(lambda: sql(COUNT) == "0", second)
    retried, done = second.about("test.sleep")
    assert (retried["event"], retried["attempt"]) == ("job.retried", 1)
    assert (done["event"], done["attempt"]) == ("job.done", 2)


async def test_a_new_worker_looks_for_jobs_of_killed_ones_at_once(
    start_worker: StartWorker, enqueue: Enqueue
) -> None:
    await enqueue("test.sleep", milliseconds=60_000)
    first = start_worker()
    await until(first.notes, first)
    first.kill(signal.SIGKILL)
    await asyncio.sleep(OPTIONS["stalled_after"] + 0.5)
    second = start_worker()
    await until(lambda: second.lines("worker.started"), second)
    lines = second.lines()
    started = next(n for n, line in enumerate(lines) if line["event"] == "worker.started")
    assert ("job.retried", "test.sleep") in {
        (line["event"], line.get("job")) for line in lines[:started]
    }


async def test_a_worker_finishes_the_job_in_hand(
    start_worker: StartWorker, enqueue: Enqueue, sql: Sql
) -> None:
    await enqueue("test.sleep", milliseconds=1500)
    worker = start_worker(concurrency=1)
    await until(worker.notes, worker)
    await enqueue("test.sleep", milliseconds=1)
    assert await asyncio.to_thread(worker.kill, signal.SIGTERM) == 0
    assert [words[0] for words in worker.notes()] == ["begun", "ended"]
    assert sql(f"{COUNT} AND status = 'todo'") == "1"
    assert sql("SELECT count(*) FROM procrastinate_workers") == "0"
    assert worker.lines()[-1]["event"] == "worker.stopped"


@pytest.mark.parametrize("name", ["test.sleep", "test.slow"])
async def test_a_job_that_a_stopping_worker_finishes_is_not_given_to_another(
    start_worker: StartWorker, enqueue: Enqueue, sql: Sql, name: str
) -> None:
    workers = {str(worker.process.pid): worker for worker in (start_worker(), start_worker())}
    for worker in workers.values():
        await until(lambda worker=worker: worker.lines("worker.started"), worker)  # type: ignore[misc]
    await enqueue(name, milliseconds=int(2 * OPTIONS["stalled_after"] * 1000))
    await until(worker.notes, worker)
    ((_, pid),) = worker.notes()
    stopping = workers.pop(pid)
    ((_, other),) = workers.items()
    assert await asyncio.to_thread(stopping.kill, signal.SIGTERM) == 0
    assert stopping.notes() == [["begun", pid], ["ended", pid]]
    assert sql(COUNT) == "0"
    assert [line["event"] for line in stopping.about(name)] == ["job.done"]
    assert other.about(name) == []


async def test_a_job_that_takes_longer_than_the_grace_is_put_back(
    start_worker: StartWorker, enqueue: Enqueue, sql: Sql
) -> None:
    await enqueue("test.sleep", milliseconds=60_000)
    worker = start_worker(grace=0.5)
    await until(worker.notes, worker)
    assert await asyncio.to_thread(worker.kill, signal.SIGTERM) == 0
    assert sql("SELECT status FROM procrastinate_jobs WHERE task_name = 'test.sleep'") == "todo"
    assert [line["event"] for line in worker.about("test.sleep")] == ["job.retried"]


async def test_a_job_that_somebody_forgotten_has_taken_is_left_to_the_next(
    start_worker: StartWorker, enqueue: Enqueue, sql: Sql
) -> None:
    await enqueue("test.sleep", milliseconds=2000)
    worker = start_worker()
    await until(worker.notes, worker)
    # Its worker was taken for dead; another one has taken the job since, and was forgotten too.
    sql(
        "UPDATE procrastinate_jobs SET worker_id = NULL, attempts = attempts + 1 "
        "WHERE task_name = 'test.sleep'"
    )
    await until(lambda: worker.lines("job.taken"), worker)
    assert sql("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'test.sleep'") == "1"


async def test_two_workers_do_each_job_once(
    start_worker: StartWorker, enqueue: Enqueue, sql: Sql
) -> None:
    for number in range(60):
        await enqueue("test.write", to=ADDRESS, number=number)
    workers = [start_worker(), start_worker()]
    await until(lambda: sql(COUNT) == "0", workers[0])
    assert Counter(words[1] for words in workers[0].notes()) == {str(n): 1 for n in range(60)}
    await until(lambda: all(worker.lines("worker.started") for worker in workers), workers[0])


async def test_slow_jobs_keep_no_other_waiting(
    start_worker: StartWorker, enqueue: Enqueue, sql: Sql
) -> None:
    for _ in range(6):
        await enqueue("test.slow", milliseconds=60_000)
    worker = start_worker(grace=0.5)
    await until(worker.notes, worker)
    for number in range(8):
        await enqueue("test.write", to=ADDRESS, number=number)
    await until(lambda: len(worker.about("test.write")) == 8, worker)
    status = "SELECT queue_name, status, count(*) FROM procrastinate_jobs "
    where = "WHERE task_name = 'test.slow' GROUP BY 1, 2 ORDER BY 2"
    assert sql(status + where).splitlines() == ["slow|todo|5", "slow|doing|1"]
    assert await asyncio.to_thread(worker.kill, signal.SIGTERM) == 0
    assert sql(status + where).splitlines() == ["slow|todo|6"]
    assert sql("SELECT count(*) FROM procrastinate_workers") == "0"


async def test_a_failing_job_rests_longer_each_time_and_stays_as_failed(
    start_worker: StartWorker, enqueue: Enqueue, sql: Sql
) -> None:
    await enqueue("test.fail", to=ADDRESS)
    worker = start_worker(retries={"attempts": 4, "first": 0.5})
    status = "SELECT status, attempts FROM procrastinate_jobs WHERE task_name = 'test.fail'"
    await until(lambda: sql(status) == "failed|4", worker)
    times = [float(words[1]) for words in worker.notes()]
    rests = [later - earlier for earlier, later in pairwise(times)]
    assert len(rests) == 3
    for rest, least in zip(rests, (0.375, 0.75, 1.5), strict=True):
        assert rest >= least
    lines = worker.about("test.fail")
    assert [line["event"] for line in lines] == [*["job.retried"] * 3, "job.failed"]
    assert [line["level"] for line in lines] == [*["warning"] * 3, "error"]
    assert "worker_for_tests.py" in lines[-1]["exception"]
    assert lines[-1]["error"] == "RuntimeError"
    assert "anna" not in worker.text()


async def test_a_job_of_a_newer_release_waits_for_it(
    start_worker: StartWorker, enqueue: Enqueue, sql: Sql
) -> None:
    await enqueue("test.write", to=ADDRESS)
    sql("UPDATE procrastinate_jobs SET task_name = 'test.newer'")
    worker = start_worker()
    await until(lambda: worker.about("test.newer"), worker)
    await until(lambda: sql(f"{COUNT} AND status = 'todo' AND attempts = 1") == "1", worker)
    assert "waits for a newer one" in worker.about("test.newer")[0]["message"]
    assert "anna" not in worker.text()
    assert "Traceback" not in worker.text()


async def test_a_database_that_is_away_is_waited_for(
    start_worker: StartWorker, enqueue: Enqueue, postgresql: PostgreSQL, sql: Sql
) -> None:
    worker = start_worker()
    await until(lambda: worker.lines("worker.started"), worker)
    # The end of a job in hand is noted with patience, before the worker waits: none is.
    scheduled = [name for name, handler in handlers.items() if isinstance(handler, Periodic)]
    in_hand = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
    await until(
        lambda: all(worker.about(name) for name in scheduled) and sql(in_hand) == "0", worker
    )
    await asyncio.to_thread(postgresql.execute, "ALTER DATABASE harbour ALLOW_CONNECTIONS false")
    try:
        ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'harbour'"
        await asyncio.to_thread(postgresql.execute, ends)
        await until(lambda: worker.lines("worker.waits"), worker)
        await asyncio.sleep(4)
        assert worker.process.poll() is None
    finally:
        await asyncio.to_thread(postgresql.execute, "ALTER DATABASE harbour ALLOW_CONNECTIONS true")
    await enqueue("test.write", to=ADDRESS)
    await until(lambda: worker.about("test.write"), worker)
    await until(lambda: sql(COUNT) == "0", worker)
    events = [line["event"] for line in worker.lines("worker.")]
    assert events == ["worker.started", "worker.waits", "worker.started"]
    assert "Traceback" not in worker.text()
    assert worker.kill(signal.SIGTERM) == 0


async def test_a_database_that_is_not_there_at_the_start(
    start_worker: StartWorker, tmp_path: Path
) -> None:
    url = f"postgresql+asyncpg://harbour:secret@/harbour?host={tmp_path}"
    worker = start_worker("app.worker", APP_DATABASE_URL=url)
    await until(worker.lines, worker)
    await asyncio.sleep(3)
    assert worker.kill(signal.SIGTERM) == 0
    events = [line["event"] for line in worker.lines()]
    assert events == ["worker.waits", "worker.stopped"]
    assert "secret" not in worker.text()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"APP_TOKEN_SECRET": ""}, "token_secret"),
        (
            {"APP_ENVIRONMENT": "development", "APP_DATABASE_URL": "sqlite+aiosqlite://"},
            "The worker needs PostgreSQL",
        ),
    ],
)
def test_settings_that_cannot_work_are_said_in_one_sentence(
    start_worker: StartWorker, changes: dict[str, str], sentence: str
) -> None:
    worker = start_worker("app.worker", **changes)
    assert worker.process.wait(TIMEOUT) == 1
    assert sentence in worker.text()
    assert len(worker.text().splitlines()) == 1
