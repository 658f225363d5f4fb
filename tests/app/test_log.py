"""Log lines, and records for the journal on a real socket."""

import array
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from app import journal, log
from app.journal import JournalSocket, encode, field_name
from app.settings import Settings
from tests.app.conftest import Login, StartApp
from tests.services import ROOT


def parse(record: bytes) -> dict[str, str]:
    """Read a record as the protocol says: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/"""
    fields = {}
    while record:
        line, _, rest = record.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        assert name.decode() not in fields
        fields[name.decode()] = value.decode()
        record = rest
    return fields


def fail(reason: str) -> None:
    raise ValueError(reason)


class Journal:
    """The receiving end, as journald has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def records(self) -> list[dict[str, str]]:
        """Take everything that has come."""
        found: list[dict[str, str]] = []
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return found
            for _, _, passed in ancillary:
                (descriptor,) = array.array("i", passed)
                with os.fdopen(descriptor, "rb") as file:
                    file.seek(0)
                    data = file.read()
            found.append(parse(data))


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Journal]:
    receiver = Journal(tmp_path / "journal")
    yield receiver
    receiver.socket.close()


@pytest.fixture
def to_journal(receiver: Journal, settings_with: Callable[..., Settings]) -> Iterator[Journal]:
    sender = JournalSocket(receiver.path)
    log.configure(settings_with(log_output="journal"), sender)
    yield receiver
    sender.close()
    log.configure(settings_with())


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, root.level = before
    structlog.contextvars.clear_contextvars()


def test_an_event_becomes_fields(to_journal: Journal) -> None:
    log.get_logger().warning("thing.happened", message="It happened.", user_id=7, nothing=None)
    (record,) = to_journal.records()
    assert record == {
        "MESSAGE": "It happened.",
        "PRIORITY": "4",
        "EVENT": "thing.happened",
        "USER_ID": "7",
        "RELEASE": "v9.8.7",
        "SYSLOG_IDENTIFIER": "harbour",
    }


@pytest.mark.parametrize(
    ("level", "priority"), [("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")]
)
def test_priorities(to_journal: Journal, level: str, priority: str) -> None:
    getattr(log.get_logger(), level)("event")
    (record,) = to_journal.records()
    assert (record["PRIORITY"], record["MESSAGE"]) == (priority, "event")


def test_a_level_below_the_setting_is_not_written(to_journal: Journal) -> None:
    log.get_logger().debug("event")
    assert to_journal.records() == []


def test_an_exception_comes_with_its_trace(to_journal: Journal) -> None:
    try:
        fail("wrong\nin two lines")
    except ValueError:
        log.get_logger().exception("failed", message="It failed.")
    (record,) = to_journal.records()
    assert record["PRIORITY"] == "3"
    assert record["EXCEPTION"].startswith("Traceback (most recent call last):\n")
    assert record["EXCEPTION"].endswith("ValueError: wrong\nin two lines")
    assert record["MESSAGE"] == f"It failed.\n{record['EXCEPTION']}"


def test_a_line_break_in_a_value_makes_no_field(to_journal: Journal) -> None:
    log.get_logger().info("event", message="one\nPRIORITY=0\nUSER_ID=1", surrogate="\ud800")
    (record,) = to_journal.records()
    assert record["MESSAGE"] == "one\nPRIORITY=0\nUSER_ID=1"
    assert record["PRIORITY"] == "6"
    assert "USER_ID" not in record


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("user_id", "USER_ID"),
        ("_hidden", "HIDDEN"),
        ("http.status-code", "HTTP_STATUS_CODE"),
        ("9lives", "LIVES"),
        ("é", "FIELD"),
        ("x" * 80, "X" * 64),
    ],
)
def test_names_of_fields_are_valid(key: str, name: str) -> None:
    assert field_name(key) == name


def test_a_record_too_large_for_a_datagram_arrives_whole(to_journal: Journal) -> None:
    text = "0123456789" * 100_000
    log.get_logger().info("event", message=text)
    (record,) = to_journal.records()
    assert record["MESSAGE"] == text


def test_a_journal_that_does_not_read_holds_nobody_up(receiver: Journal) -> None:
    sender = JournalSocket(receiver.path)
    record = encode({"MESSAGE": "x" * 1000})
    started = time.perf_counter()
    for _ in range(2000):
        sender.send(record)
    assert time.perf_counter() - started < 0.5
    assert sender.lost > 0
    kept = len(receiver.records())
    lost = sender.lost
    assert kept + lost == 2000
    sender.send(record)
    assert sender.lost == 0
    messages = [found["MESSAGE"] for found in receiver.records()]
    assert messages == ["x" * 1000, f"{lost} log records were lost."]
    sender.close()


def test_no_journal_at_all_is_no_error(tmp_path: Path) -> None:
    sender = JournalSocket(tmp_path / "none")
    sender.send(encode({"MESSAGE": "x"}))
    assert sender.lost == 1
    sender.close()


def test_lines_of_libraries_go_the_same_way(to_journal: Journal) -> None:
    logging.getLogger("uvicorn.error").warning("A %s from a library.", "line")
    try:
        fail("inside a library")
    except ValueError:
        logging.getLogger("gunicorn.error").exception("It failed.")
    logging.getLogger("uvicorn.access").info("not wanted")
    logging.getLogger("custom").log(45, "a level of its own")
    warning, failure, own = to_journal.records()
    assert (warning["MESSAGE"], warning["PRIORITY"]) == ("A line from a library.", "4")
    assert warning["LOGGER"] == "uvicorn.error"
    assert "ValueError: inside a library" in failure["EXCEPTION"]
    assert own["MESSAGE"] == "a level of its own"


async def test_a_request_leaves_one_record_with_its_fields(
    start_app: StartApp, login: Login, receiver: Journal, settings_with: Callable[..., Settings]
) -> None:
    client: httpx.AsyncClient = await start_app()
    headers = {**await login("ann"), "X-Request-ID": "request-of-journal"}
    sender = JournalSocket(receiver.path)
    log.configure(settings_with(log_output="journal"), sender)
    await client.get("/api/v1/items/5?search=x", headers=headers)
    records = [found for found in receiver.records() if found.get("EVENT") == "http.request"]
    sender.close()
    assert len(records) == 1
    record = records[0]
    assert float(record.pop("DURATION_MS")) > 0
    assert record.pop("MESSAGE").startswith("GET /api/v1/items/5 404 ")
    assert record == {
        "PRIORITY": "6",
        "EVENT": "http.request",
        "HTTP_METHOD": "GET",
        "HTTP_ROUTE": "/api/v1/items/{item_id}",
        "HTTP_STATUS": "404",
        "REQUEST_ID": "request-of-journal",
        "USER_ID": "1",
        "CLIENT_ADDRESS": "192.0.2.7",
        "RELEASE": "v9.8.7",
        "SYSLOG_IDENTIFIER": "harbour",
    }


def test_json_lines(
    settings_with: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(settings_with(log_output="json"))
    log.get_logger().info("event", message="One\nline.", number=7)
    (line,) = capsys.readouterr().err.splitlines()
    fields = json.loads(line)
    assert fields.pop("timestamp").endswith("Z")
    assert fields == {"event": "event", "message": "One\nline.", "number": 7, "level": "info"}


def test_console_lines(
    settings_with: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(settings_with(log_output="console"))
    log.get_logger().info("event", message="For people.")
    assert "For people." in capsys.readouterr().err


@pytest.mark.parametrize("right", [True, False])
def test_under_systemd_the_journal_is_found(receiver: Journal, right: bool) -> None:
    """Standard error must be the stream that systemd names, or somebody redirected it."""
    script = (
        "import os, pathlib, sys\n"
        "from app import journal\n"
        f"journal.JOURNAL_SOCKET = pathlib.Path({str(receiver.path)!r})\n"
        "status = os.fstat(2)\n"
        f"inode = status.st_ino + {0 if right else 1}\n"
        "os.environ['JOURNAL_STREAM'] = f'{status.st_dev}:{inode}'\n"
        "print(journal.runs_under_journal())\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert shown.stdout.strip() == str(right)


def test_without_systemd_there_is_no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not journal.runs_under_journal()
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    monkeypatch.setattr(journal, "JOURNAL_SOCKET", Path("/nonexistent"))
    assert not journal.runs_under_journal()


def test_the_output_is_chosen_by_what_is_there(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with()
    assert log._output(settings) == "json"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert log._output(settings) == "console"
    monkeypatch.setattr(log, "runs_under_journal", lambda: True)
    assert log._output(settings) == "journal"


async def test_a_line_that_json_has_no_words_for_is_written_all_the_same(
    settings_with: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(settings_with(log_output="json"))
    log.get_logger().info("odd", number=10**30, text="\ud800", path=Path("/x"))
    line = json.loads(capsys.readouterr().err)
    assert (line["number"], line["text"], line["path"]) == (10**30, "\ud800", "/x")
