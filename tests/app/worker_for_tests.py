"""A worker with jobs that tell what they do: `python -m tests.app.worker_for_tests`.

NOTES    the file to which each job adds lines
OPTIONS  how the worker works, as JSON
"""

import asyncio
import json
import os
import time
from pathlib import Path

from app.job_handlers import handlers as own_handlers
from app.job_handlers import settle_tasks
from app.jobs import housekeeping
from app.jobs.handlers import Handlers, JobResources, Periodic, Slow, own_retries
from app.jobs.queue import WorkerOptions
from app.jobs.retries import Retries
from app.log import get_logger
from app.settings import Settings, load_settings
from app.worker import run


def note(*words: str | float) -> None:
    with Path(os.environ["NOTES"]).open("a") as notes:
        notes.write(" ".join(str(word) for word in words) + "\n")


async def write(resources: JobResources, to: str, number: int = 0) -> None:
    get_logger().info("test.written", message="It is written.")
    note("written", number)


async def sleep(resources: JobResources, milliseconds: int) -> None:
    note("begun", os.getpid())
    await asyncio.sleep(milliseconds / 1000)
    note("ended", os.getpid())


async def fail(resources: JobResources, to: str) -> None:
    note("failed", time.time())
    try:
        int(to)
    except ValueError as error:
        message = f"No mail for {to}."
        raise RuntimeError(message) from error


async def requeue_stalled(resources: JobResources) -> None:
    await housekeeping.requeue_stalled(resources, own_retries(handlers), options().stalled_after)


async def tick(resources: JobResources) -> None:
    note("tick", os.getpid())


handlers: Handlers = {
    **own_handlers,
    "test.write": write,
    "test.sleep": sleep,
    "test.fail": fail,
    "test.slow": Slow(sleep),
    "jobs.requeue_stalled": Periodic(requeue_stalled, cron="* * * * * *"),
    "tasks.settle": Periodic(settle_tasks, cron="* * * * * *"),
}


def options() -> WorkerOptions:
    values = json.loads(os.environ["OPTIONS"])
    retries = Retries(**values.pop("retries", {}))
    return WorkerOptions(retries=retries, **values)


# Only for those who ask for it: each run leaves a line in the notes.
if os.environ.get("TICKS"):
    handlers = {**handlers, "test.tick": Periodic(tick, cron=os.environ["TICKS"])}

# A name that procrastinate has taken, so that no worker can be made.
if os.environ.get("BROKEN"):
    handlers = {**handlers, "builtin:procrastinate.builtin_tasks.remove_old_jobs": write}


if __name__ == "__main__":
    asyncio.run(run(load_settings(Settings), handlers, options()))
