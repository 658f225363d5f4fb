"""Jobs that failed for good: listed, done after all, or given up by on-call on a host."""

import asyncio
import json

import httpx
import pytest

from tests.app.conftest import RunSql, events
from tests.app.consoles import RunConsole, sentence
from tests.app.workers import ADDRESS, Enqueue, StartWorker, until

DEAD = (
    "INSERT INTO procrastinate_jobs (queue_name, task_name, args) "
    'VALUES (\'{queue}\', \'{name}\', \'{{"to": "anna@example.com", "_request_id": "r-1"}}\');'
    "UPDATE procrastinate_jobs SET status = 'doing' WHERE status = 'todo';"
    "UPDATE procrastinate_jobs SET status = 'failed', attempts = 10 WHERE status = 'doing'"
)
COUNT = "SELECT count(*) FROM procrastinate_jobs"


def die(sql: RunSql, name: str, queue: str = "default") -> None:
    sql(DEAD.format(name=name, queue=queue))


async def test_why_a_job_has_failed_is_kept_without_its_text(
    start_worker: StartWorker, enqueue: Enqueue, console: RunConsole, sql: RunSql
) -> None:
    await enqueue("test.fail", to=ADDRESS)
    worker = start_worker(retries={"attempts": 2, "first": 0.2})
    await until(lambda: sql(f"{COUNT} WHERE status = 'failed'") == "1", worker)
    listed = await asyncio.to_thread(console, "jobs", "--json")
    (letter,) = (json.loads(line) for line in listed.stdout.splitlines())
    assert letter.pop("asked_at") < letter.pop("failed_at")
    assert letter == {
        "id": letter["id"],
        "name": "test.fail",
        "queue": "default",
        "attempts": 2,
        "error": "RuntimeError",
        "request_id": None,
    }
    shown = await asyncio.to_thread(console, "job", str(letter["id"]))
    assert "error       RuntimeError\n" in shown.stdout
    lines = await asyncio.to_thread(console, "jobs")
    assert "test.fail" in lines.stdout
    assert "RuntimeError (2 attempts)" in lines.stdout
    assert "anna" not in listed.stdout + shown.stdout + lines.stdout
    assert events(sql) == []


async def test_a_job_whose_worker_was_killed_each_time_says_so(
    start_worker: StartWorker, console: RunConsole, sql: RunSql
) -> None:
    sql(
        "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour');"
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, attempts, worker_id) "
        "SELECT 'default', 'test.write', 'doing', 9, max(id) FROM procrastinate_workers"
    )
    worker = start_worker()
    await until(lambda: sql(f"{COUNT} WHERE status = 'failed'") == "1", worker)
    assert "WorkerEnded (10 attempts)" in (await asyncio.to_thread(console, "jobs")).stdout


async def test_dead_letters_are_done_after_all(
    start_worker: StartWorker, console: RunConsole, sql: RunSql
) -> None:
    for _ in range(3):
        die(sql, "test.write")
    die(sql, "test.other")
    sql("INSERT INTO job_failures (job_id, error) SELECT id, 'OSError' FROM procrastinate_jobs")
    first = await asyncio.to_thread(console, "retry-job", "1")
    assert (first.returncode, first.stdout) == (0, "1 job is done again.\n")
    assert sql("SELECT status, attempts FROM procrastinate_jobs WHERE id = 1") == "todo|0"
    rest = await asyncio.to_thread(console, "retry-job", "--all", "test.write")
    assert rest.stdout == "2 jobs are done again.\n"
    assert sql(f"{COUNT} WHERE status = 'failed'") == "1"
    assert sql("SELECT job_id FROM job_failures") == "4"
    assert [(one["event"], one["actor_id"], one["details"]) for one in events(sql)] == [
        ("job.retried", None, {"job_id": 1, "operator": "olga"}),
        ("job.retried", None, {"job": "test.write", "jobs": 2, "operator": "olga"}),
    ]
    worker = start_worker()
    await until(lambda: sql(f"{COUNT} WHERE task_name = 'test.write'") == "0", worker)
    assert len(worker.notes()) == 3


async def test_one_of_a_schedule_is_done_although_later_moments_were_served(
    start_worker: StartWorker, console: RunConsole, sql: RunSql
) -> None:
    die(sql, "test.tick")
    sql("UPDATE procrastinate_jobs SET args = '{\"timestamp\": 60}'")
    sql("INSERT INTO job_ticks (name, tick, job_id) VALUES ('test.tick', 99999999999, 7)")
    done = await asyncio.to_thread(console, "retry-job", "1")
    assert done.stdout == "1 job is done again.\n"
    worker = start_worker(TICKS="0 0 1 1 *")
    await until(lambda: sql(f"{COUNT} WHERE id = 1") == "0", worker)
    assert [words[0] for words in worker.notes()] == ["tick"]


async def test_dead_letters_are_given_up(console: RunConsole, sql: RunSql) -> None:
    for name in ("test.write", "test.write", "test.other"):
        die(sql, name)
    assert console("discard-job", "3").stdout == "1 job is given up.\n"
    assert console("discard-job", "--all", "test.write").stdout == "2 jobs are given up.\n"
    assert sql(COUNT) == "0"
    assert [one["event"] for one in events(sql)] == ["job.discarded"] * 2
    assert console("jobs").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("job", "7"), "No job that failed for good"),
        (("job", str(2**70)), "No job that failed for good"),
        (("retry-job", "1"), "No job that failed for good"),
        (("retry-job", "--all", "test.nothing"), "No job that failed for good"),
        (("discard-job", "1"), "No job that failed for good"),
        (("discard-job",), "NUMBER | --all JOB"),
        (("retry-job", "1", "--all", "test.write"), "NUMBER | --all JOB"),
    ],
)
def test_what_has_not_failed_is_left_alone(
    console: RunConsole, sql: RunSql, arguments: tuple[str, ...], reason: str
) -> None:
    sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'test.write')")
    assert reason in sentence(console(*arguments))
    assert sql(f"{COUNT} WHERE status = 'todo'") == "1"
    assert events(sql) == []


async def test_the_numbers_of_jobs_are_measured(client: httpx.AsyncClient, sql: RunSql) -> None:
    def line(queue: str, state: str, number: int) -> str:
        return f'jobs{{queue="{queue}",state="{state}"}} {number}.0'

    await asyncio.to_thread(die, sql, "test.write", "slow")
    sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'test.write')")
    text = (await client.get("/metrics")).text
    assert line("slow", "dead", 1) in text
    assert line("default", "waiting", 1) in text
    assert line("default", "dead", 0) in text
    sql("DELETE FROM procrastinate_jobs")
    text = (await client.get("/metrics")).text
    assert line("slow", "dead", 0) in text
    assert line("default", "waiting", 0) in text
