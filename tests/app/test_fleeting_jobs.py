"""Jobs that an outage of the cache leaves: they hold nobody up, and end when they are of no use."""

from collections.abc import Callable

import pytest

from app.cached import longest_kept
from app.jobs.retries import Retries
from app.settings import Settings
from tests.app.workers import Enqueue, StartWorker, until
from tests.services import running_redis

FORGET = "cache.forget"
LEFT = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'cache.forget'"


async def test_jobs_of_an_outage_come_after_all_others_and_alarm_nobody(
    enqueue: Enqueue, start_worker: StartWorker, sql: Callable[[str], str]
) -> None:
    with running_redis() as server:
        for number in range(20):
            await enqueue(FORGET, key=f"cached:item:{number}")
        await enqueue("test.write", to="ann", number=1)
        with server.stopped():
            worker = start_worker(concurrency=1, APP_CACHE_URL=server.url)
            await until(lambda: len(worker.about(FORGET)) > 3, worker)
        names = [
            line["job"] for line in worker.lines("job.") if line["job"] in {"test.write", FORGET}
        ]
        assert names[0] == "test.write"
        line = worker.about(FORGET)[0]
        assert (line["event"], line["level"]) == ("job.retried", "warning")
        assert "The cache does not answer, or takes nothing more." in line["message"]
        assert line.get("exception") is None
        # The next attempts of those that have failed are seconds away.
        sql("UPDATE procrastinate_jobs SET scheduled_at = NULL")
        await until(lambda: sql(LEFT) == "0", worker)
    assert worker.lines("job.failed") == []


async def test_what_the_cache_has_forgotten_by_itself_is_left_out(
    enqueue: Enqueue, start_worker: StartWorker, sql: Callable[[str], str]
) -> None:
    await enqueue(FORGET, key="cached:item:1")
    sql("UPDATE procrastinate_events SET at = at - interval '66 seconds'")
    worker = start_worker(APP_CACHE_URL="redis://127.0.0.1:1/0")
    await until(lambda: sql(LEFT) == "0", worker)
    events = [line["event"] for line in worker.about(FORGET)]
    assert events == ["job.left_out", "job.done"]


def test_the_attempts_span_the_longest_life_of_what_is_kept(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", min)
    retries = Retries()
    rests = [retries.rest(attempt) for attempt in range(1, retries.attempts)]
    assert rests[0] == 7.5
    assert sum(rests) > longest_kept(settings_with(cache_seconds=3600))
