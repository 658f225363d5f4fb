"""What becomes of the mails about accounts when the mail server is away for a while."""

import asyncio
import time
from collections.abc import Callable

import httpx

from app.db import Database
from app.jobs.handlers import JobResources
from app.jobs.queue import WorkerOptions
from app.jobs.retries import Retries
from app.mail import Mailer
from app.recovery.jobs import send_password_reset
from app.settings import Settings
from tests.app.conftest import RunSql, StartPost, log_in, register
from tests.app.smtp_servers import running_smtp
from tests.app.test_recovery import NEW, ask_reset, reset, verify

SOON = WorkerOptions(concurrency=1, poll=0.05, retries=Retries(first=0.05, longest=0.05))
LEFT = "SELECT count(*) FROM procrastinate_jobs"


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_mails_that_fail_for_a_while_come_in_the_end(
    client: httpx.AsyncClient, start_post: StartPost, sql: RunSql
) -> None:
    post = start_post(SOON)
    post.inbox.refusals = 6
    await register(client, "ann")
    await until(lambda: sql(LEFT) == "0")
    assert post.inbox.refusals == 0
    token = await post.token(1)
    assert (await verify(client, token)).status_code == 200
    post.inbox.refusals = 6
    await ask_reset(client, "ann@example.com")
    await until(lambda: sql(LEFT) == "0")
    assert (await reset(client, await post.token(2))).status_code == 200
    assert (await log_in(client, "ann", NEW)).status_code == 200


async def test_a_mail_that_never_goes_out_is_a_dead_letter(
    client: httpx.AsyncClient, start_post: StartPost, sql: RunSql
) -> None:
    post = start_post(SOON)
    post.inbox.refusals = 100
    await register(client, "ann")
    await until(lambda: sql(f"{LEFT} WHERE status = 'todo' OR status = 'doing'") == "0")
    assert sql("SELECT task_name, status, attempts FROM procrastinate_jobs") == (
        "recovery.send_verification|failed|10"
    )
    assert sql("SELECT error FROM job_failures") == "MailError"
    assert post.inbox.refusals == 90


async def test_the_mails_of_an_hour_are_counted_although_some_have_failed(
    client: httpx.AsyncClient, start_post: StartPost, sql: RunSql
) -> None:
    post = start_post(SOON)
    await register(client, "ann")
    await post.mails(1)
    for refusals in (2, 0, 3, 0, 1, 0, 0):
        post.inbox.refusals = refusals
        await ask_reset(client, "ann@example.com")
        await until(lambda: sql(LEFT) == "0")
    await post.mails(1 + 5)


async def test_of_many_jobs_at_once_no_more_than_five_send_a_mail(
    client: httpx.AsyncClient, settings_with: Callable[..., Settings]
) -> None:
    await register(client, "ann")
    with running_smtp() as inbox:
        settings = settings_with(
            mail_host="127.0.0.1",
            mail_port=inbox.port,
            mail_security="none",
            mail_from="noreply@harbour.example",
        )
        resources = JobResources(settings, Database(settings), Mailer(settings))
        # The pool holds its connections back no longer than it takes to open them.
        for _ in range(2):
            await asyncio.gather(
                *(send_password_reset(resources, "ann@example.com") for _ in range(8))
            )
        await resources.close()
        assert len(inbox.messages) == 5
