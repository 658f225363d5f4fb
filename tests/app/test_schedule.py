"""A periodic job is done once for each moment, however many workers there are."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.app.conftest import RunSql
from tests.app.workers import StartWorker, Worker, until

# What is done is deleted, so that a trigger has to remember it.
REMEMBER = """
CREATE TABLE ticks (number serial, tick bigint);
CREATE FUNCTION remember_tick() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN INSERT INTO ticks (tick) VALUES ((OLD.args ->> 'timestamp')::bigint); RETURN OLD; END $$;
CREATE TRIGGER remember_tick AFTER DELETE ON procrastinate_jobs FOR EACH ROW
WHEN (OLD.task_name = 'test.tick') EXECUTE FUNCTION remember_tick()
"""
FORGET = """
DROP TRIGGER remember_tick ON procrastinate_jobs; DROP FUNCTION remember_tick; DROP TABLE ticks
"""
SERVED = "SELECT count(DISTINCT tick) FROM ticks"
ASK_AGAIN = (
    "SELECT procrastinate_defer_periodic_job_v2('default', NULL, NULL, 'test.tick', 0, '', "
    "{tick}, '{{\"timestamp\": {tick}}}')"
)
PERIOD = 2


@pytest.fixture
def ticks(empty: None, sql: RunSql) -> Iterator[None]:
    """Remembers the moments whose jobs have ended."""
    sql(REMEMBER)
    yield
    sql(FORGET)


async def test_each_moment_is_served_once_by_several_workers_one_of_which_is_killed(
    ticks: None, start_worker: StartWorker, sql: RunSql
) -> None:
    workers = [start_worker(TICKS=f"* * * * * */{PERIOD}") for _ in range(3)]
    for worker in workers:
        await until(lambda worker=worker: worker.lines("worker.started"), worker)  # type: ignore[misc]
    await until(lambda: int(sql(SERVED)) >= 3, workers[0])
    workers[0].kill(signal.SIGKILL)
    before = int(sql(SERVED))
    await until(lambda: int(sql(SERVED)) >= before + 4, workers[1])
    # All are there, and none is there twice: not in the queue, and not in what was done.
    for worker in workers[1:]:
        assert await asyncio.to_thread(worker.kill, signal.SIGTERM) == 0
    found = [int(tick) for tick in sql("SELECT tick FROM ticks ORDER BY tick").splitlines()]
    assert {later - earlier for earlier, later in pairwise(found)} == {PERIOD}
    runs = Counter(words[1] for words in workers[1].notes())
    # The one that was killed may have had one of them in hand.
    assert runs.total() + len(left_out(*workers)) - len(found) in {0, 1}
    assert sql("SELECT name, tick FROM job_ticks WHERE name = 'test.tick'") == (
        f"test.tick|{found[-1]}"
    )


async def test_a_clock_that_was_ahead_stops_no_schedule(
    ticks: None, start_worker: StartWorker, sql: RunSql
) -> None:
    # As a worker has left it whose host believed that it was next year.
    ahead = int(time.time()) + 365 * 86_400
    sql(f"INSERT INTO job_ticks (name, tick, job_id) VALUES ('test.tick', {ahead}, 0)")
    worker = start_worker(TICKS="* * * * * *")
    await until(lambda: len(worker.notes()) >= 3, worker)
    assert await asyncio.to_thread(worker.kill, signal.SIGTERM) == 0
    # And what is asked for by one counts as asked for now.
    sql("DELETE FROM job_ticks")
    worker = start_worker(TICKS="* * * * * *")
    assert sql(ASK_AGAIN.format(tick=ahead)).isdecimal()
    tick = "SELECT tick FROM job_ticks WHERE name = 'test.tick'"
    await until(lambda: sql(tick) != "", worker)
    assert int(sql(tick)) <= time.time() + 61


async def test_a_moment_that_is_asked_for_again_is_left_out(
    ticks: None, start_worker: StartWorker, sql: RunSql
) -> None:
    worker = start_worker(TICKS="* * * * * *")
    await until(lambda: int(sql(SERVED)) >= 4, worker)
    # As a worker asks that was suspended: of the moments the queue remembers the newest alone.
    for tick in sql("SELECT tick FROM ticks ORDER BY tick LIMIT 3").splitlines():
        assert sql(ASK_AGAIN.format(tick=tick)).isdecimal()
    await until(lambda: len(left_out(worker)) >= 3, worker)
    assert await asyncio.to_thread(worker.kill, signal.SIGTERM) == 0
    runs, ended = len(worker.notes()), int(sql("SELECT count(*) FROM ticks"))
    assert runs + len(left_out(worker)) == ended
    assert runs <= int(sql(SERVED)) == ended - 3


async def test_a_moment_that_no_worker_has_seen_is_served_once_by_the_next_one(
    ticks: None, start_worker: StartWorker, sql: RunSql
) -> None:
    # Of a day, and three hours ago: by the clock of today or of yesterday.
    missed = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=3)
    daily = f"{missed.minute} {missed.hour} * * *"
    served = int((missed - timedelta(days=5)).timestamp())
    sql(f"INSERT INTO job_ticks (name, tick, job_id) VALUES ('test.tick', {served}, 1)")
    workers = [start_worker(TICKS=daily) for _ in range(2)]
    await until(lambda: sql(SERVED) == "1", workers[0])
    workers.append(start_worker(TICKS=daily))
    for worker in workers:
        # The schedule is looked at before the jobs of each second are stored.
        await until(lambda worker=worker: worker.lines("worker.started"), worker)  # type: ignore[misc]
    await asyncio.sleep(3)
    assert [int(tick) for tick in sql("SELECT tick FROM ticks").splitlines()] == [
        int(missed.timestamp())
    ]
    assert [words[0] for words in workers[0].notes()] == ["tick"]
    assert left_out(*workers) == []


async def test_of_many_moments_that_no_worker_has_seen_the_newest_is_served(
    ticks: None, start_worker: StartWorker, sql: RunSql
) -> None:
    began = int(time.time())
    hours_ago = began - 7200
    sql(f"INSERT INTO job_ticks (name, tick, job_id) VALUES ('test.tick', {hours_ago}, 1)")
    worker = start_worker(TICKS=f"* * * * * */{PERIOD}")
    await until(lambda: int(sql(SERVED)) >= 2, worker)
    assert int(sql("SELECT min(tick) FROM ticks")) > began - PERIOD
    assert left_out(worker) == []


async def test_a_job_that_is_new_begins_with_its_next_moment(
    ticks: None, start_worker: StartWorker, sql: RunSql
) -> None:
    past = datetime.now(UTC) - timedelta(hours=3)
    worker = start_worker(TICKS=f"{past.minute} {past.hour} * * *")
    await until(lambda: sql(SERVED) == "1", worker)
    assert worker.notes() == []
    assert "begins with its next moment" in left_out(worker)[0]["message"]
    # From now on it is known, so that a moment without a worker is missed.
    assert sql("SELECT count(*) FROM job_ticks WHERE name = 'test.tick'") == "1"


def left_out(*workers: Worker) -> list[dict[str, Any]]:
    """Return what workers say of moments that were served before."""
    lines = [line for worker in workers for line in worker.lines("job.left_out")]
    return [line for line in lines if line["job"] == "test.tick"]
