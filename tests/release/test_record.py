"""What a monitor reads, and what the outside hears of a release."""

import html
import http.server
import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler
from prometheus_client.parser import text_string_to_metric_families

from slipway_release import announce, history, journal, metrics
from slipway_release.errors import RefusedError
from slipway_release.history import Entry
from slipway_release.settings import Settings
from slipway_release.state import Store
from tests.processes import free_port
from tests.release.world import World

NOBODY = {
    "webhook_url": "",
    "grafana_url": "",
    "grafana_token": "",
    "proxy": "",
    "mail_host": "",
    "mail_port": 25,
    "mail_from": "",
    "mail_to": [],
    "mail_starttls": False,
    "mail_user": "",
    "mail_password": "",
}
ENTRY = Entry(
    *("1", "release", "v1.1.0", "v1.0.0", "Ada <ada@quay>", 1700000000.0, 4.5, 6.25),
    *("failed", "It says <no> & ends.", {"unpack": 0.5, "watch": 1.0}),
)


class Hook(http.server.ThreadingHTTPServer):
    """Takes what is posted, and answers as it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Posted)
        self.status = 200
        self.delay = threading.Event()
        self.delay.set()
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.authorized: list[str | None] = []
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/SECRET"

    def close(self) -> None:
        self.delay.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


class _Posted(http.server.BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, json.loads(body)))
        self.server.authorized.append(self.headers["Authorization"])
        self.server.delay.wait(20)
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []

    def keep(message: str, priority: int = journal.INFO, **_: object) -> None:
        if priority == journal.WARNING:
            said.append(message)

    monkeypatch.setattr(journal, "send", keep)
    return said


@pytest.fixture
def here(bare: World) -> Settings:
    """Settings of a service with one entry in its history."""
    history.add(bare.settings, ENTRY)
    return bare.settings


def tell(settings: Settings, **changes: object) -> None:
    settings.announcements.parent.mkdir(exist_ok=True)
    settings.announcements.write_text(json.dumps({**NOBODY, **changes}))


def test_the_metrics_of_a_release(world: World) -> None:
    assert world.release("v1.1.0").status == 0
    assert world.release("v1.2.0", crash="no").status == 1
    families = {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in text_string_to_metric_families(world.settings.metrics.read_text())
    }
    commit = json.loads((world.settings.state / "releases/v1.1.0.json").read_text())["commit"]
    assert families["slipway_release_info"] == {("quay", "v1.1.0", commit): 1.0}
    assert families["slipway_operations"] == {
        ("quay", "release", "good"): 2.0,
        ("quay", "release", "failed"): 1.0,
    }
    last = ("quay", "release", "v1.2.0")
    assert families["slipway_last_operation_success"] == {last: 0.0}
    end = families["slipway_last_operation_end_timestamp_seconds"][last]
    assert time.time() - 60 < end <= time.time()
    assert families["slipway_last_operation_duration_seconds"][last] > 0
    assert "slipway_last_operation_traffic_seconds" not in families
    assert ("quay", "unpack") in families["slipway_last_operation_step_seconds"]
    assert world.settings.metrics.stat().st_mode & 0o777 == 0o644


def test_metrics_that_cannot_be_written_change_nothing(world: World, warnings: list[str]) -> None:
    world.change(metrics=f"{world.folder}/nowhere/slipway.prom")
    assert world.release("v1.1.0").status == 0
    missing = world.folder / "nowhere/slipway.prom"
    metrics.write(
        Settings(**{**world.settings.__dict__, "metrics": missing}), Store(world.settings)
    )
    assert [str(missing) in warning for warning in warnings] == [True]


def test_the_webhook_hears_of_it(here: Settings, hook: Hook, warnings: list[str]) -> None:
    tell(here, webhook_url=hook.url)
    announce.send(here, "1")
    ((path, said),) = hook.posted
    assert path == "/services/SECRET"
    assert "release v1.0.0 → v1.1.0 by Ada &lt;ada@quay&gt;: failed after 6.2 s" in said["text"]
    assert said["text"].endswith("traffic after 4.5 s. It says &lt;no&gt; &amp; ends.")
    assert said["app"] == "quay"
    assert said["steps"] == {"unpack": 0.5, "watch": 1.0}
    assert said["reason"] == ENTRY.reason
    assert warnings == []


def test_grafana_marks_it_in_its_graphs(here: Settings, hook: Hook, warnings: list[str]) -> None:
    tell(here, grafana_url=f"http://127.0.0.1:{hook.server_port}/", grafana_token="SECRET")
    announce.send(here, "1")
    ((path, said),) = hook.posted
    assert path == "/api/annotations"
    assert hook.authorized == ["Bearer SECRET"]
    assert (said["time"], said["timeEnd"]) == (1700000000000, 1700000006250)
    assert said["tags"] == ["slipway", "quay", "release", "failed", "v1.1.0"]
    assert "release v1.0.0 → v1.1.0" in html.unescape(said["text"])
    hook.status = 401
    announce.send(here, "1")
    assert warnings == ["quay: Grafana did not take the announcement: status 401."]


@pytest.mark.parametrize(
    ("status", "warning"), [(500, "status 500"), (404, "status 404"), (302, "status 302")]
)
def test_a_webhook_that_refuses_is_a_warning_without_its_address(
    here: Settings, hook: Hook, warnings: list[str], status: int, warning: str
) -> None:
    tell(here, webhook_url=hook.url)
    hook.status = status
    announce.send(here, "1")
    assert len(hook.posted) == 1
    assert warnings == [f"quay: the webhook did not take the announcement: {warning}."]


@pytest.mark.parametrize(
    ("address", "warning"),
    [
        ("http://127.0.0.1:1/SECRET", "ConnectionRefusedError (Connection refused)"),
        ("http://127.0.0.1:1/SECRET\x01", "InvalidURL"),
        ("http://SECRET.invalid/", "gaierror"),
    ],
)
def test_a_webhook_that_is_away_is_a_warning_without_its_address(
    here: Settings, warnings: list[str], address: str, warning: str
) -> None:
    tell(here, webhook_url=address)
    announce.send(here, "1")
    assert warning in warnings[0]
    assert "SECRET" not in "".join(warnings)


def test_a_webhook_that_hangs_is_left_behind(
    here: Settings, hook: Hook, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announce, "_PATIENCE_SECONDS", 0.3)
    tell(here, webhook_url=hook.url)
    hook.delay.clear()
    begin = time.monotonic()
    announce.send(here, "1")
    assert time.monotonic() - begin < 2
    assert len(warnings) >= 1
    assert "the webhook" in warnings[0]


def test_a_webhook_that_hangs_delays_no_release(world: World, hook: Hook) -> None:
    tell(world.settings, webhook_url=hook.url)
    hook.delay.clear()
    begin = time.monotonic()
    outcome = world.release("v1.1.0")
    assert outcome.status == 0, outcome.text
    # The webhook is asked by then or later; the command does not wait for it.
    assert time.monotonic() - begin < 10
    assert world.live() == "v1.1.0"
    deadline = time.monotonic() + 10
    while not hook.posted:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert hook.posted[0][1]["result"] == "good"
    arguments = b"".join(
        path.read_bytes() for path in (world.settings.state / "operations").iterdir()
    )
    assert b"SECRET" not in arguments + outcome.text.encode()
    hook.delay.set()
    while list((world.folder / "units").glob("*announce*")):
        assert time.monotonic() < deadline + 10
        time.sleep(0.02)


class Mailbox(MessageHandler):
    """Keeps the mail."""

    def __init__(self) -> None:
        super().__init__()
        self.mail: list[Message] = []

    def handle_message(self, message: Message) -> None:
        self.mail.append(message)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A key and a certificate for 127.0.0.1."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "chain.pem")]
    name = ["-subj", "/CN=mail.test", "-addext", "subjectAltName=IP:127.0.0.1"]
    assert shutil.which("openssl")
    subprocess.run([*command.split(), *files, *name], check=True, capture_output=True)
    return tmp_path


@pytest.mark.parametrize("encrypted", [False, True])
def test_mail_goes_out(
    here: Settings,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    authority: Path,
    encrypted: bool,
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "chain.pem", authority / "key.pem")
    box = Mailbox()
    server = Controller(
        box,
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=context if encrypted else None,
        require_starttls=encrypted,
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "chain.pem"))
    server.start()
    try:
        tell(
            here,
            mail_host="127.0.0.1",
            mail_port=server.port,
            mail_from="slipway@quay.test",
            mail_to=["ada@quay.test", "bob@quay.test"],
            mail_starttls=encrypted,
        )
        announce.send(here, "1")
    finally:
        server.stop()
    assert warnings == []
    (mail,) = box.mail
    assert mail["X-RcptTo"] == "ada@quay.test, bob@quay.test"
    assert mail["Subject"] == "[quay] release of v1.1.0: failed"
    body = mail.get_payload(decode=True)
    assert isinstance(body, bytes)
    assert "v1.0.0 → v1.1.0 by Ada <ada@quay>: failed after 6.2 s" in body.decode()
    assert "unpack          0.50 s" in body.decode()


def test_mail_that_nobody_takes_is_a_warning(here: Settings, warnings: list[str]) -> None:
    tell(here, mail_host="127.0.0.1", mail_port=1, mail_from="a@b.c", mail_to=["a@b.c"])
    announce.send(here, "1")
    assert warnings == [
        "quay: the mail did not take the announcement: ConnectionRefusedError (Connection refused)."
    ]


def test_wrong_announcements_are_refused_without_their_secrets(world: World) -> None:
    path = world.settings.announcements
    for changes, reason in (
        ({"webhook_url": "SECRET"}, "the webhook is no URL"),
        ({"webhook_url": "http://[SECRET"}, "ValueError"),
        ({"grafana_url": "SECRET"}, "the grafana is no URL"),
        ({"grafana_url": "https://grafana.test"}, "Grafana lets nobody in"),
        ({"more": "SECRET"}, "TypeError"),
        ({"mail_host": "mail.test"}, "mail needs a sender"),
    ):
        tell(world.settings, **changes)
        outcome = world.run("check-announcements", str(path))
        assert outcome.status == 2
        assert reason in outcome.text
        assert "SECRET" not in outcome.text
    tell(world.settings)
    assert world.run("check-announcements", str(path)).status == 0
    with pytest.raises(RefusedError, match="no operation 7"):
        announce.send(world.settings, "7")


def test_the_last_entries_of_the_history(world: World) -> None:
    assert world.operate("release", "v1.1.0", f"--sha256={world.add('v1.1.0')}").status == 0
    (entry,) = json.loads(world.run("history", "--json", "--last=1").text)
    assert entry["version"] == "v1.1.0"
    assert len(json.loads(world.run("history", "--json").text)) == 2
    assert world.run("history", "--last=0").text == "Nothing was released here yet.\n"
