"""What a tracker of errors is told, by real processes over its real protocol."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from app.error_reports import ErrorReports
from app.middleware import RequestMiddleware
from app.settings import Settings, load_settings
from tests.app.conftest import SECRET, RunSql
from tests.app.workers import ADDRESS, TIMEOUT, Enqueue, StartWorker, until
from tests.services import ROOT, RedisServer

KEY = "4c79f60c11214eb38604f4ae0781bfb2"
# What nobody may be told, each in a place of a request from which it could be taken.
SECRETS = ("in-the-query", "in-a-header", "in-the-cookie", "198.51.100.9", "in-the-body")
# What a report consists of; more than this needs a reason.
MEMBERS = {
    "environment",
    "event_id",
    "exception",
    "level",
    "platform",
    "release",
    "sdk",
    "server_name",
    "tags",
    "timestamp",
    "transaction",
}


class Tracker:
    """A server that speaks the ingest protocol (https://develop.sentry.dev/sdk/envelopes/)."""

    def __init__(self, delay: float = 0.0) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        tracker = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(delay)
                tracker.paths.append(self.path)
                tracker.headers.append(dict(self.headers))
                packed = self.headers.get("Content-Encoding") == "gzip"
                tracker.bodies.append(gzip.decompress(body) if packed else body)
                answer = b'{"id": "1"}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is called
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def dsn(self) -> str:
        return f"http://{KEY}@127.0.0.1:{self.server.server_port}/7"

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the envelopes: a line of headers, then one and one for each item."""
        found = []
        for body in self.bodies:
            lines = body.split(b"\n")
            assert json.loads(lines[1])["type"] == "event"
            found.append(json.loads(lines[2]))
        return found


@contextmanager
def tracking(delay: float = 0.0) -> Iterator[Tracker]:
    tracker = Tracker(delay)
    thread = threading.Thread(target=tracker.server.serve_forever)
    thread.start()
    try:
        yield tracker
    finally:
        tracker.server.shutdown()
        tracker.server.server_close()
        thread.join()


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    with tracking() as one:
        yield one


class Served:
    """The service as a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", socket: Path, log: Path) -> None:
        self.process = process
        self.log = log
        transport = httpx.HTTPTransport(uds=str(socket))
        self.client = httpx.Client(transport=transport, base_url="http://localhost", timeout=60)

    def fail(self, number: int) -> httpx.Response:
        """Ask for what cannot be answered, with something secret everywhere."""
        headers = {
            "X-Request-ID": f"request-{number:04}",
            "X-Forwarded-For": "198.51.100.9",
            "X-Secret": "in-a-header",
            "Cookie": "harbour=in-the-cookie",
        }
        url = f"/api/v1/books/{number}?author=in-the-query"
        return self.client.request("GET", url, headers=headers, content=b'{"a": "in-the-body"}')


@contextmanager
def serving(folder: Path, environment: dict[str, str]) -> Iterator[Served]:
    socket, log = folder / "web.sock", folder / "log"
    options = ["--no-control-socket", "--bind", f"unix:{socket}", "--forwarded-allow-ips", "*"]
    options += ["--worker-class", "uvicorn_worker.UvicornWorker"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "app.main:create_app()", *options],
            cwd=ROOT,
            stdout=file,
            stderr=file,
            env={"PATH": os.environ["PATH"], "APP_TOKEN_SECRET": SECRET, **environment},
        )
    deadline = time.monotonic() + 60
    while not socket.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    served = Served(process, socket, log)
    try:
        yield served
    finally:
        served.client.close()
        process.terminate()
        process.wait(40)


@pytest.fixture
def broken(empty: None, sql: RunSql) -> Iterator[None]:
    """Takes a table away, so that whoever needs it meets what nobody has foreseen."""
    sql("ALTER TABLE books RENAME TO away")
    yield
    sql("ALTER TABLE away RENAME TO books")


@pytest.fixture
def settings(database_url: str, redis_server: RedisServer, tmp_path: Path) -> dict[str, str]:
    return {
        "APP_DATABASE_URL": database_url,
        "APP_CACHE_URL": redis_server.url,
        "APP_FILE_FOLDER": str(tmp_path),
        "APP_LOG_OUTPUT": "json",
        "APP_RELEASE": "v1.2.3",
        "APP_SENTRY_ENVIRONMENT": "staging",
        "APP_LIMIT_DEFAULT": "",
    }


def test_an_unforeseen_error_of_a_request_is_reported_and_nothing_of_the_request(
    broken: None, settings: dict[str, str], tracker: Tracker, tmp_path: Path
) -> None:
    with serving(tmp_path, {**settings, "APP_SENTRY_DSN": tracker.dsn}) as served:
        assert served.fail(1).status_code == 500
        # What the service foresees is no fault of it.
        assert served.client.get("/api/v1/items/1").status_code == 404
        assert served.client.get("/api/v1/users/me").status_code == 401
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(40) == 0
    (event,) = tracker.events()
    assert set(event) <= MEMBERS
    assert event["server_name"] == ""
    assert event["transaction"] == "GET /api/v1/books/{book_id}"
    assert event["tags"] == {"route": event["transaction"], "request_id": "request-0001"}
    assert (event["release"], event["environment"]) == ("v1.2.3", "staging")
    raised = event["exception"]["values"][-1]
    assert raised["type"] == "UndefinedTableError"
    assert set(raised) == {"type", "module", "stacktrace"}
    frames = raised["stacktrace"]["frames"]
    assert all(set(one) == {"filename", "function", "module", "lineno", "in_app"} for one in frames)
    assert {one["filename"] for one in frames if one["in_app"]} >= {"app/db.py"}
    assert not [one for one in frames if one["filename"].startswith("/")]
    assert tracker.paths == ["/api/7/envelope/"]
    assert KEY in tracker.headers[0]["X-Sentry-Auth"]
    told = b"".join(tracker.bodies).decode() + json.dumps(tracker.headers)
    for secret in (*SECRETS, SECRET, "relation", "harbour@"):
        assert secret not in told
    assert KEY not in served.log.read_text()


@pytest.mark.parametrize("state", ["slow", "down"])
def test_a_tracker_that_is_slow_or_down_holds_up_no_request_and_no_stop(
    broken: None, settings: dict[str, str], tmp_path: Path, state: str
) -> None:
    with tracking(delay=30 if state == "slow" else 0) as tracker:
        if state == "down":
            tracker.server.server_close()
        settings |= {"APP_SENTRY_DSN": tracker.dsn, "APP_SENTRY_FLUSH_SECONDS": "0.5"}
        with serving(tmp_path, settings) as served:
            served.client.get("/health")
            began = time.monotonic()
            for number in range(1, 21):
                assert served.fail(number).status_code == 500
            assert time.monotonic() - began < 15
            assert served.client.get("/health").status_code == 200
            began = time.monotonic()
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(40) == 0
            assert time.monotonic() - began < 15
    assert "service.stopped" in served.log.read_text()


async def test_an_unforeseen_error_of_a_job_is_reported_without_what_it_was_given(
    start_worker: StartWorker, enqueue: Enqueue, tracker: Tracker
) -> None:
    await enqueue("test.fail", to=ADDRESS)
    worker = start_worker(
        retries={"attempts": 2, "first": 0.2}, APP_SENTRY_DSN=tracker.dsn, APP_RELEASE="v1.2.3"
    )
    await until(lambda: len(worker.about("test.fail")) == 2, worker)
    assert await asyncio.to_thread(worker.kill, signal.SIGTERM) == 0
    events = tracker.events()
    assert [event["transaction"] for event in events] == ["test.fail"] * 2
    assert set(events[0]) <= MEMBERS
    assert events[0]["tags"] == {"job": "test.fail"}
    cause, raised = events[0]["exception"]["values"]
    assert (cause["type"], raised["type"]) == ("ValueError", "RuntimeError")
    assert raised["stacktrace"]["frames"][-1]["function"] == "fail"
    assert b"anna" not in b"".join(tracker.bodies)


async def test_jobs_that_fail_for_good_without_an_error_of_their_own_are_reported(
    start_worker: StartWorker, empty: None, sql: RunSql, tracker: Tracker
) -> None:
    given = '{"to": "anna@example.com", "_request_id": "r-1"}'
    sql(
        "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour');"
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, attempts, worker_id, args) "
        f"SELECT 'default', 'test.write', 'doing', 9, max(id), '{given}' "
        "FROM procrastinate_workers;"
        "INSERT INTO procrastinate_jobs (queue_name, task_name, attempts, args) "
        f"VALUES ('default', 'test.newer', 9, '{given}')"
    )
    worker = start_worker(APP_SENTRY_DSN=tracker.dsn)
    failed = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'failed'"
    await until(lambda: sql(failed) == "2", worker)
    assert await asyncio.to_thread(worker.kill, signal.SIGTERM) == 0
    told = {event["transaction"]: event for event in tracker.events()}
    assert {name: event["exception"]["values"][0]["type"] for name, event in told.items()} == {
        "test.write": "WorkerEnded",
        "test.newer": "UnknownJobError",
    }
    for name, event in told.items():
        assert event["tags"] == {"job": name, "request_id": "r-1"}
        assert len(event["exception"]["values"]) == 1
    assert len(tracker.bodies) == 2
    assert b"anna" not in b"".join(tracker.bodies)


async def test_what_ends_the_worker_is_reported(
    start_worker: StartWorker, empty: None, tracker: Tracker
) -> None:
    worker = start_worker(APP_SENTRY_DSN=tracker.dsn, BROKEN="yes")
    assert await asyncio.to_thread(worker.process.wait, TIMEOUT) == 1
    (event,) = tracker.events()
    assert event["tags"] == {"place": "worker"}
    (raised,) = event["exception"]["values"]
    assert raised["type"] == "TaskAlreadyRegistered"
    assert {"app/worker.py", "app/jobs/queue.py"} <= {
        frame["filename"] for frame in raised["stacktrace"]["frames"]
    }


async def test_what_ends_a_part_of_the_worker_is_reported(
    start_worker: StartWorker, empty: None, tracker: Tracker
) -> None:
    worker = start_worker(APP_SENTRY_DSN=tracker.dsn, TICKS="not a line of cron")
    await until(tracker.events, worker)
    assert worker.kill(signal.SIGTERM) == 0
    event = tracker.events()[0]
    assert event["tags"] == {"place": "worker"}
    assert event["exception"]["values"][-1]["type"].startswith("Croniter")
    assert b"line of cron" not in b"".join(tracker.bodies)


async def test_an_unforeseen_error_of_a_websocket_is_reported(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError(scope["path"])

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        pass

    reports = ErrorReports(settings_for(monkeypatch, tracker.dsn))
    state = SimpleNamespace(resources=SimpleNamespace(error_reports=reports))
    headers = [(b"x-request-id", b"request-0001"), (b"cookie", b"in-the-cookie")]
    scope: Scope = {"type": "websocket", "path": "/ws/anna", "headers": headers}
    scope["app"] = SimpleNamespace(state=state)
    await RequestMiddleware(fail, 1000)(scope, receive, send)
    await reports.close()
    (event,) = tracker.events()
    assert event["tags"] == {"route": "WEBSOCKET unmatched", "request_id": "request-0001"}
    assert b"anna" not in tracker.bodies[0]
    assert b"in-the-cookie" not in tracker.bodies[0]


async def test_more_than_the_settings_allow_is_counted_and_not_sent(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = settings_for(monkeypatch, tracker.dsn, APP_SENTRY_REPORTS_PER_MINUTE="3")
    reports = ErrorReports(limited)
    now = time.monotonic()
    for _ in range(10):
        reports.report(ValueError("anna"), place="realtime")
    monkeypatch.setattr("app.error_reports.time.monotonic", lambda: now + 61)
    reports.report(KeyError("anna"), place="realtime")
    await reports.close()
    tags = [event["tags"] for event in tracker.events()]
    assert tags == [
        *[{"place": "realtime"}] * 3,
        {"place": "realtime", "not_reported_before": "7"},
    ]
    reports.report(ValueError("after the end"))
    await reports.close()
    assert len(tracker.bodies) == 4


def settings_for(monkeypatch: pytest.MonkeyPatch, dsn: str, **more: str) -> Settings:
    base = {"APP_DATABASE_URL": "postgresql+asyncpg://a@/a", "APP_TOKEN_SECRET": SECRET}
    base["APP_FILE_STORE"] = "none"
    for name, value in {**base, "APP_SENTRY_DSN": dsn, **more}.items():
        monkeypatch.setenv(name, value)
    return load_settings(Settings)


@pytest.mark.parametrize(
    "dsn",
    [
        *("anything", "https://host/1", "https://key@host/", "ftp://k@h/1"),
        *("https://key@host:99999/1", "https://key@host:abc/1", "https://key@host:0/1"),
    ],
)
def test_a_dsn_that_is_none_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    with pytest.raises(Exception, match="APP_SENTRY_DSN: it must look like") as caught:
        settings_for(monkeypatch, dsn)
    assert dsn not in str(caught.value)


def test_without_a_dsn_nothing_of_it_is_loaded() -> None:
    """It costs each process memory."""
    script = "import sys, app.main, app.worker; sys.exit('sentry_sdk' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
