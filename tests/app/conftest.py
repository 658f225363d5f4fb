"""The service on real servers."""

import asyncio
import functools
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import httpx
import pytest
import redis
from asgi_lifespan import LifespanManager
from fastapi import FastAPI

from app.db import Database
from app.job_handlers import handlers
from app.jobs.queue import WorkerOptions
from app.jobs.service import Jobs
from app.main import create_app
from app.settings import Settings
from app.worker import run as run_worker
from tests.app.consoles import Result, RunConsole, host_environment, run_console
from tests.app.smtp_servers import Inbox, running_smtp
from tests.app.worker_for_tests import handlers as handlers_for_tests
from tests.app.workers import Enqueue, StartWorker, start_worker_in
from tests.services import (
    OWNER,
    PostgreSQL,
    RedisServer,
    alembic,
    running_postgresql,
    running_redis,
)

PASSWORD = "Correct-horse-7"
SECRET = "a-secret-for-tests-that-is-long-enough-for-each-of-the-hmac-algorithms"

StartApp = Callable[..., Awaitable[httpx.AsyncClient]]
Login = Callable[..., Awaitable[dict[str, str]]]
RunSql = Callable[[str], str]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One cluster for all tests."""
    with running_postgresql() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for all tests."""
    with running_redis() as server:
        yield server


@pytest.fixture(scope="session")
def database_url(postgresql: PostgreSQL) -> str:
    """A database at the newest revision, made by the role that owns the schema."""
    name = postgresql.create_database("harbour")
    result = alembic(postgresql.url(name, OWNER), "upgrade", "head")
    assert result.returncode == 0, result.stderr
    return postgresql.url(name)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith(("APP_", "RATELIMIT_")) or name in {
            "CREDENTIALS_DIRECTORY",
            "JOURNAL_STREAM",
        }:
            monkeypatch.delenv(name)


async def empty_stores(postgresql: PostgreSQL, redis_server: RedisServer) -> None:
    """Empty the tables and the cache."""
    connection = await asyncpg.connect(host=str(postgresql.folder), user=OWNER, database="harbour")
    await connection.execute(
        "TRUNCATE users, audit_events, login_counters, procrastinate_jobs, procrastinate_workers, "
        "job_failures, job_ticks RESTART IDENTITY CASCADE"
    )
    await connection.close()
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        await asyncio.to_thread(client.flushall)


@pytest.fixture
async def empty(postgresql: PostgreSQL, database_url: str, redis_server: RedisServer) -> None:
    """Begin with empty tables and an empty cache."""
    await empty_stores(postgresql, redis_server)


@pytest.fixture(scope="module")
async def empty_once(postgresql: PostgreSQL, database_url: str, redis_server: RedisServer) -> None:
    """Begin a module whose tests share a running service with nothing of other modules."""
    await empty_stores(postgresql, redis_server)


@pytest.fixture(scope="session")
def file_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service keeps files, for all tests."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="session")
def settings_with(
    database_url: str, redis_server: RedisServer, file_folder: Path
) -> Callable[..., Settings]:
    """Make production settings for the real servers."""

    def make(**changes: Any) -> Settings:
        values: dict[str, Any] = {
            "database_url": database_url,
            "cache_url": redis_server.url,
            "token_secret": SECRET,
            "allowed_hosts": ["testserver"],
            "limit_login": "1000/minute",
            "limit_register": "1000/minute",
            "limit_search": "1000/minute",
            "limit_export": "1000/minute",
            "limit_mail": "1000/minute",
            "limit_profile": "1000/minute",
            "limit_secret": "1000/minute",
            "limit_upload": "1000/minute",
            "limit_report": "1000/minute",
            "limit_default": "",
            "file_folder": file_folder,
            "file_reserve": 0,
            "release": "v9.8.7",
            "database_read_pool_size": 4,
            "database_write_pool_size": 4,
        }
        return Settings(**{**values, **changes})

    return make


@asynccontextmanager
async def client_of(application: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application's lifespan and talk to it."""
    async with LifespanManager(application):
        transport = httpx.ASGITransport(application, client=("192.0.2.7", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            client.application = application  # type: ignore[attr-defined]
            yield client


@pytest.fixture
async def start_app(empty: None, settings_with: Callable[..., Settings]) -> AsyncIterator[StartApp]:
    """Start an instance of the service with settings that differ from the usual ones."""
    async with AsyncExitStack() as stack:

        async def start(**changes: Any) -> httpx.AsyncClient:
            application = create_app(settings_with(**changes))
            return await stack.enter_async_context(client_of(application))

        yield start


@pytest.fixture
async def client(start_app: StartApp) -> httpx.AsyncClient:
    """One instance of the service."""
    return await start_app()


@pytest.fixture
def sql(postgresql: PostgreSQL) -> Callable[[str], str]:
    """Run a statement on the service's database as its superuser."""
    return lambda statement: postgresql.execute(statement, "harbour")


async def register(client: httpx.AsyncClient, username: str) -> httpx.Response:
    """Make an account."""
    return await client.post(
        "/api/v1/users/register",
        json={
            "username": username,
            "email": f"{username}@example.com",
            "password": PASSWORD,
            "full_name": "Somebody",
        },
    )


async def log_in(
    client: httpx.AsyncClient, username: str, password: str = PASSWORD, scope: str = ""
) -> httpx.Response:
    """Ask for a token."""
    form = {"username": username, "password": password, "scope": scope}
    return await client.post("/api/v1/auth/token", data=form)


@pytest.fixture
def login(client: httpx.AsyncClient, sql: Callable[[str], str]) -> Login:
    """Make an account with a role, and return the header that proves it."""

    async def go(username: str, role: str = "user", scope: str = "") -> dict[str, str]:
        created = await register(client, username)
        assert created.status_code == 201, created.text
        if role != "user":
            await asyncio.to_thread(
                sql, f"UPDATE users SET role = '{role}' WHERE username = '{username}'"
            )
        answer = await log_in(client, username, scope=scope)
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    return go


def events(sql: RunSql, where: str = "true") -> list[dict[str, Any]]:
    """Return the audit trail, oldest first."""
    rows = sql(f"SELECT json_agg(a ORDER BY id) FROM audit_events AS a WHERE {where}")
    found: list[dict[str, Any]] = json.loads(rows or "[]")
    return found


@dataclass(frozen=True)
class Post:
    """The mails that a worker has sent."""

    inbox: Inbox
    sql: RunSql

    async def mails(self, count: int) -> list[EmailMessage]:
        """Wait until all mails are sent, which must be so many, and return them."""
        jobs = "SELECT count(*), coalesce(sum(attempts), 0) FROM procrastinate_jobs "
        deadline = time.monotonic() + 30
        left = ""
        while left != "0|0":
            assert time.monotonic() < deadline, left
            left = await asyncio.to_thread(self.sql, f"{jobs} WHERE task_name LIKE 'recovery.%'")
            assert left.endswith("|0"), "A mail has failed."
            await asyncio.sleep(0.02)
        assert len(self.inbox.messages) == count, self.inbox.messages
        return self.inbox.messages

    async def token(self, count: int) -> str:
        """Return the token of the last of so many mails."""
        (token,) = set(re.findall(r"hmt_[\w-]+", text_of((await self.mails(count))[-1])))
        return str(token)


StartPost = Callable[..., Post]


def text_of(message: EmailMessage) -> str:
    """Return what a mail says to those who read plain text."""
    body = message.get_body(("plain",))
    assert body is not None
    content: str = body.get_content()
    return content.replace("\r\n", "\n")


@pytest.fixture
async def start_post(
    empty: None, settings_with: Callable[..., Settings], sql: RunSql
) -> AsyncIterator[StartPost]:
    """Start a worker that sends its mails to a server of its own."""
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        workers: list[asyncio.Task[None]] = []

        def start(options: WorkerOptions | None = None, **changes: Any) -> Post:
            inbox = stack.enter_context(running_smtp())
            settings = settings_with(
                mail_host="127.0.0.1",
                mail_port=inbox.port,
                mail_security="none",
                mail_from="noreply@harbour.example",
                log_output="json",
                **changes,
            )
            # One job at a time, so that mails come in the order in which they were asked for.
            work = run_worker(settings, handlers, options or WorkerOptions(concurrency=1))
            workers.append(loop.create_task(work))
            return Post(inbox, sql)

        yield start
        # As systemd ends it. One that has not begun yet does not listen.
        for worker in workers:
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
            await worker
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)


@pytest.fixture
async def post(start_post: StartPost) -> Post:
    """A worker with the usual settings."""
    return start_post()


@pytest.fixture
def start_worker(empty: None, database_url: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers with options that differ from the usual ones; all end with the test."""
    environment = {"APP_DATABASE_URL": database_url, "APP_TOKEN_SECRET": SECRET}
    with ExitStack() as stack:
        yield functools.partial(start_worker_in, tmp_path, environment, stack)


@pytest.fixture
async def enqueue(empty: None, settings_with: Callable[..., Settings]) -> AsyncIterator[Enqueue]:
    """Store jobs as a request does."""
    settings = settings_with()
    jobs, database = Jobs(settings, handlers_for_tests), Database(settings)

    async def go(name: str, **arguments: str | int) -> None:
        async with database.writing() as session:
            await jobs.enqueue(session, name, **arguments)

    yield go
    await database.close()


@pytest.fixture
def environment(empty: None, database_url: str, tmp_path: Path) -> dict[str, str]:
    """What a unit of the host gives: settings, credentials and who acts."""
    return host_environment(tmp_path, database_url, SECRET)


@pytest.fixture
def console(environment: dict[str, str]) -> RunConsole:
    """Run one command of the console, which never shows the password."""

    def run(*arguments: str | bytes, **options: str) -> Result:
        result = run_console(environment, *arguments, **options)
        assert PASSWORD not in result.stdout + result.stderr
        return result

    return run
