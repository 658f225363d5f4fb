"""Reports: asked for, written by real workers, ended once, downloaded."""

import asyncio
import csv
import io
import signal
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.reports.sheet import rows_to_csv
from tests.app.conftest import Login, RunSql, StartApp, log_in, register
from tests.app.workers import StartWorker, Worker, suspend, until
from tests.processes import peak_memory

REPORTS = "/api/v1/reports"
HEAD = ["id", "title", "description", "price", "quantity", "created_at", "updated_at"]
MANY = (
    "INSERT INTO items (owner_id, title, price, quantity) "
    "SELECT 1, 'Item ' || n, n / 100.0, n FROM generate_series(1, {count}) AS n"
)
SLOW = "SELECT count(*) FROM procrastinate_jobs WHERE queue_name = 'slow'"
RETRY = (
    "SELECT procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) FROM procrastinate_jobs "
    "WHERE status = 'failed'"
)
FORGET = (
    "INSERT INTO procrastinate_jobs (queue_name, task_name) "
    "VALUES ('default', 'reports.forget_expired')"
)
Headers = dict[str, str]


async def ask(client: httpx.AsyncClient, headers: Headers) -> int:
    answer = await client.post(REPORTS, headers=headers)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["status"] == "queued"
    assert answer.headers["location"] == f"/api/v1/tasks/{body['task_id']}"
    return int(body["task_id"])


async def look(client: httpx.AsyncClient, headers: Headers, task_id: int) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/tasks/{task_id}", headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def wait_for(
    client: httpx.AsyncClient, headers: Headers, task_id: int, *statuses: str, worker: Worker
) -> dict[str, Any]:
    deadline = time.monotonic() + 90
    while (task := await look(client, headers, task_id))["status"] not in statuses:
        assert time.monotonic() < deadline, (task, worker.text())
        await asyncio.sleep(0.1)
    return task


@pytest.fixture
def folder(client: httpx.AsyncClient) -> str:
    """Where the service keeps its files, which its workers have to share."""
    return str(client.application.state.settings.file_folder)  # type: ignore[attr-defined]


async def test_a_report_is_written_by_a_worker_and_downloaded(
    client: httpx.AsyncClient, login: Login, start_worker: StartWorker, folder: str, sql: RunSql
) -> None:
    ann, bob = await login("ann"), await login("bob")
    nasty = ['=HYPERLINK("http://evil")', "+1", "-2+3", "@SUM(A1)", 'Ünï, "quoted"\r\nline']
    for number, title in enumerate(nasty):
        item = {"title": title, "description": title, "price": f"{number}.10", "quantity": number}
        item["price"] = f"{number + 1}.10"
        assert (await client.post("/api/v1/items", json=item, headers=ann)).status_code == 201
    await client.post("/api/v1/items", json={"title": "Bob's", "price": "1"}, headers=bob)
    task_id = await ask(client, ann)
    worker = start_worker(APP_FILE_FOLDER=folder)
    task = await wait_for(client, ann, task_id, "succeeded", "failed", worker=worker)
    assert (task["status"], task["error"]) == ("succeeded", None)
    assert task["download"] == f"/api/v1/files/{task['file_id']}"
    assert task["created_at"] < task["started_at"] < task["ended_at"] < task["expires_at"]
    got = await client.get(task["download"], headers=ann)
    assert got.status_code == 200
    assert got.headers["content-type"].startswith("text/csv")
    assert got.headers["content-disposition"].startswith("attachment")
    head, *rows = csv.reader(io.StringIO(got.content.decode(), newline=""))
    assert head == HEAD
    assert [row[1] for row in rows] == [*(f"'{title}" for title in nasty[:4]), nasty[4]]
    assert [row[3] for row in rows] == ["1.10", "2.10", "3.10", "4.10", "5.10"]
    assert got.content.count(b"\r\n") == len(rows) + 1 + 2
    # It is hers alone, and so is the file.
    for path in (f"/api/v1/tasks/{task_id}", task["download"]):
        assert (await client.get(path, headers=bob)).status_code == 404
        assert (await client.get(path)).status_code == 401
    assert (await client.delete(task["download"], headers=ann)).status_code in {200, 204}
    after = await look(client, ann, task_id)
    assert (after["status"], after["file_id"], after["download"]) == ("succeeded", None, None)
    await until(
        lambda: sql("SELECT count(*) FROM procrastinate_jobs WHERE queue_name = 'slow'") == "0",
        worker,
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"),
        ("  =1+1", "'  =1+1"),
        ("\t=1", "'\t=1"),
        ("＝1", "'＝1"),  # noqa: RUF001
        ("a=1", "a=1"),
        ('say "no"', 'say "no"'),
        (Decimal("10.00"), "10.00"),
        (Decimal("9999999999.99"), "9999999999.99"),
        (0, "0"),
    ],
)
def test_no_value_is_taken_for_a_formula(value: object, written: str) -> None:
    raw = rows_to_csv([(value, "next")]).decode()
    assert raw.endswith("\r\n")
    assert list(csv.reader(io.StringIO(raw, newline=""))) == [[written, "next"]]


async def test_an_account_may_have_a_few_open_tasks(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    ann, bob = await login("ann"), await login("bob")
    answers = await asyncio.gather(*(client.post(REPORTS, headers=ann) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [409] * 5
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["error"]["code"] == "too_many_tasks"
    assert sql("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'reports.items'") == "3"
    await ask(client, bob)
    sql("UPDATE tasks SET status = 'failed' WHERE id = 1")
    await ask(client, ann)


async def test_a_report_of_many_items_takes_little_memory_and_all_of_them(
    client: httpx.AsyncClient, login: Login, start_worker: StartWorker, folder: str, sql: RunSql
) -> None:
    ann = await login("ann")
    worker = start_worker(APP_FILE_FOLDER=folder)
    small = await ask(client, ann)
    await wait_for(client, ann, small, "succeeded", worker=worker)
    before = peak_memory(worker.process.pid)
    sql(MANY.format(count=60_000))
    large = await ask(client, ann)
    task = await wait_for(client, ann, large, "succeeded", "failed", worker=worker)
    assert task["status"] == "succeeded"
    got = await client.get(task["download"], headers=ann)
    rows = list(csv.reader(io.StringIO(got.text, newline="")))[1:]
    assert [int(row[0]) for row in rows] == list(range(1, 60_001))
    assert sum(Decimal(row[3]) for row in rows) == sum(Decimal(n) / 100 for n in range(1, 60_001))
    assert len(got.content) > 5_000_000
    assert peak_memory(worker.process.pid) - before < 16_000 * 1024


async def test_the_task_of_a_killed_worker_is_done_again_and_ends_once(
    client: httpx.AsyncClient, login: Login, start_worker: StartWorker, folder: str, sql: RunSql
) -> None:
    ann = await login("ann")
    sql(MANY.format(count=100_000))
    first = start_worker(APP_FILE_FOLDER=folder)
    task_id = await ask(client, ann)
    await wait_for(client, ann, task_id, "running", worker=first)
    first.kill(signal.SIGKILL)
    second = start_worker(APP_FILE_FOLDER=folder)
    task = await wait_for(client, ann, task_id, "succeeded", "failed", worker=second)
    assert task["status"] == "succeeded"
    listed = (await client.get("/api/v1/files", headers=ann)).json()
    assert [one["id"] for one in listed["files"]] == [task["file_id"]]


async def test_of_two_runs_at_once_one_ends_the_task(
    client: httpx.AsyncClient, login: Login, start_worker: StartWorker, folder: str, sql: RunSql
) -> None:
    ann, before = await login("ann"), large_files(folder)
    sql(MANY.format(count=100_000))
    # It is suspended for so long that the other one takes its job, and then lives on.
    suspended = start_worker(APP_FILE_FOLDER=folder)
    task_id = await ask(client, ann)
    await wait_for(client, ann, task_id, "running", worker=suspended)
    suspend(suspended, sql)
    other = start_worker(APP_FILE_FOLDER=folder)
    begun = "SELECT count(*) FROM tasks WHERE run <> '{}'"
    run = sql("SELECT run FROM tasks")
    await until(lambda: sql(begun.format(run)) == "1", other)
    suspended.process.send_signal(signal.SIGCONT)
    task = await wait_for(client, ann, task_id, "succeeded", "failed", worker=other)
    assert task["status"] == "succeeded"
    await until(lambda: suspended.about("reports.items"), suspended)
    for worker in (suspended, other):
        assert await asyncio.to_thread(worker.kill, signal.SIGTERM) == 0
    assert sql("SELECT count(*) FROM files") == "1"
    assert sql("SELECT file_id FROM tasks") == str(task["file_id"])
    assert large_files(folder) - before == {sql("SELECT stored_as FROM files")}


def large_files(folder: str) -> set[str]:
    found = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.name for path in found if path.stat().st_size > 1_000_000}


async def test_a_worker_that_is_stopped_puts_a_long_report_back(
    client: httpx.AsyncClient, login: Login, start_worker: StartWorker, folder: str, sql: RunSql
) -> None:
    ann = await login("ann")
    sql(MANY.format(count=200_000))
    worker = start_worker(APP_FILE_FOLDER=folder, grace=0.3)
    task_id = await ask(client, ann)
    await wait_for(client, ann, task_id, "running", worker=worker)
    assert await asyncio.to_thread(worker.kill, signal.SIGTERM) == 0
    assert (await look(client, ann, task_id))["status"] == "queued"
    assert sql("SELECT status FROM procrastinate_jobs WHERE queue_name = 'slow'") == "todo"
    again = start_worker(APP_FILE_FOLDER=folder)
    task = await wait_for(client, ann, task_id, "succeeded", "failed", worker=again)
    assert task["status"] == "succeeded"


async def test_a_report_that_cannot_be_written_fails_after_six_attempts(
    client: httpx.AsyncClient, login: Login, start_worker: StartWorker, folder: str, sql: RunSql
) -> None:
    ann = await login("ann")
    task_id = await ask(client, ann)
    sql("UPDATE procrastinate_jobs SET attempts = 4 WHERE queue_name = 'slow'")
    job = "SELECT status, attempts FROM procrastinate_jobs WHERE queue_name = 'slow'"
    # No file fits, which another attempt could change.
    worker = start_worker(APP_FILE_FOLDER=folder, APP_FILE_RESERVE=str(2**60))
    await until(lambda: sql(job) == "todo|5", worker)
    assert (await look(client, ann, task_id))["status"] == "queued"
    sql("UPDATE procrastinate_jobs SET scheduled_at = now() WHERE queue_name = 'slow'")
    task = await wait_for(client, ann, task_id, "failed", worker=worker)
    assert task["error"] == "task_failed"
    assert sql(job) == "failed|6"
    lines = [(line["event"], line["attempt"]) for line in worker.about("reports.items")]
    assert lines == [("job.retried", 5), ("job.failed", 6)]


@pytest.mark.parametrize("attempts", [5, 9])
async def test_a_task_fails_with_its_job_and_comes_back_with_it(
    client: httpx.AsyncClient,
    login: Login,
    start_worker: StartWorker,
    folder: str,
    sql: RunSql,
    attempts: int,
) -> None:
    ann = await login("ann")
    task_id = await ask(client, ann)
    # Its worker was killed amid the last attempt.
    sql(
        "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour');"
        f"UPDATE procrastinate_jobs SET status = 'doing', attempts = {attempts}, "
        "worker_id = (SELECT max(id) FROM procrastinate_workers) WHERE queue_name = 'slow';"
        "UPDATE tasks SET status = 'running', run = 'lost'"
    )
    worker = start_worker(APP_FILE_FOLDER=folder)
    task = await wait_for(client, ann, task_id, "failed", worker=worker)
    assert (task["error"], task["file_id"]) == ("task_failed", None)
    assert task["ended_at"] < task["expires_at"]
    sql(RETRY)
    task = await wait_for(client, ann, task_id, "succeeded", worker=worker)
    assert (task["error"], task["file_id"]) == (None, 1)


DEAD = (
    "UPDATE procrastinate_jobs SET status = 'doing' WHERE queue_name = 'slow'; "
    "UPDATE procrastinate_jobs SET status = 'failed' WHERE queue_name = 'slow'"
)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DELETE FROM tasks", "the task 1 is gone"),
        ("UPDATE tasks SET status = 'succeeded'", "the task 1 has ended before"),
        # Its worker was killed before the end of the job was noted.
        (
            "UPDATE tasks SET status = 'failed', error = 'quota_exceeded'",
            "the task 1 has ended before",
        ),
    ],
)
async def test_a_job_that_can_do_nothing_for_its_task_says_so(
    client: httpx.AsyncClient,
    login: Login,
    start_worker: StartWorker,
    folder: str,
    sql: RunSql,
    change: str,
    told: str,
) -> None:
    await ask(client, await login("ann"))
    sql(f"{DEAD}; {change}; {RETRY}")
    worker = start_worker(APP_FILE_FOLDER=folder)
    await until(lambda: sql(SLOW) == "0", worker)
    left_out, done = worker.about("reports.items")
    assert [left_out["event"], done["event"]] == ["job.left_out", "job.done"]
    assert left_out["job_id"] == done["job_id"]
    assert told in left_out["message"]


async def test_a_job_that_failed_for_good_goes_with_its_task(
    client: httpx.AsyncClient, login: Login, start_worker: StartWorker, folder: str, sql: RunSql
) -> None:
    ann = await login("ann")
    for _ in range(2):
        await ask(client, ann)
    sql(
        f"{DEAD}; INSERT INTO job_failures (job_id, error) SELECT job_id, 'OSError' FROM tasks;"
        "UPDATE tasks SET status = 'failed', "
        "expires_at = now() + make_interval(days => id::int - 1)"
    )
    sql(FORGET)
    worker = start_worker(APP_FILE_FOLDER=folder)
    await until(lambda: sql("SELECT count(*) FROM tasks") == "1", worker)
    kept = sql("SELECT job_id FROM tasks WHERE id = 2")
    assert sql("SELECT id FROM procrastinate_jobs WHERE queue_name = 'slow'") == kept
    assert sql("SELECT job_id FROM job_failures") == kept


async def test_what_no_attempt_could_change_fails_at_once(
    client: httpx.AsyncClient, login: Login, start_worker: StartWorker, folder: str
) -> None:
    ann = await login("ann")
    worker = start_worker(APP_FILE_FOLDER=folder, APP_FILE_QUOTA="10")
    task = await wait_for(client, ann, await ask(client, ann), "failed", worker=worker)
    assert task["error"] == "quota_exceeded"
    assert [line["event"] for line in worker.about("reports.items")] == ["job.done"]


async def test_expired_results_are_taken_away(
    client: httpx.AsyncClient, login: Login, start_worker: StartWorker, folder: str, sql: RunSql
) -> None:
    ann = await login("ann")
    worker = start_worker(APP_FILE_FOLDER=folder)
    expired, kept = await ask(client, ann), await ask(client, ann)
    for task_id in (expired, kept):
        await wait_for(client, ann, task_id, "succeeded", worker=worker)
    sql(f"UPDATE tasks SET expires_at = now() WHERE id = {expired}")
    path = f"/api/v1/tasks/{expired}"
    sql(FORGET)
    await until(lambda: sql("SELECT count(*) FROM tasks") == "1", worker)
    assert (await client.get(path, headers=ann)).status_code == 404
    assert (await look(client, ann, kept))["status"] == "succeeded"
    listed = (await client.get("/api/v1/files", headers=ann)).json()
    assert listed["total"] == 1


async def test_where_files_are_kept_nowhere_there_are_no_reports(
    start_app: Any, sql: RunSql
) -> None:
    client = await start_app(file_store="none")
    made = {"username": "ann", "email": "a@example.com", "password": "Correct-horse-7"}
    await client.post("/api/v1/users/register", json=made)
    form = {"username": "ann", "password": "Correct-horse-7"}
    token = (await client.post("/api/v1/auth/token", data=form)).json()["access_token"]
    answer = await client.post(REPORTS, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "files_off")
    assert sql("SELECT count(*) FROM tasks") == "0"


async def test_asking_for_reports_has_a_limit_of_its_own(start_app: StartApp) -> None:
    client = await start_app(limit_report="2/hour", open_tasks_per_user=10)
    await register(client, "ann")
    token = (await log_in(client, "ann")).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    statuses = [(await client.post(REPORTS, headers=headers)).status_code for _ in range(3)]
    assert statuses == [202, 202, 429]
