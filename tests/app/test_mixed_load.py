"""`make load` against a real service: what it sends, tells and keeps."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.app.conftest import SECRET
from tests.performance.mixed import __main__ as mixed
from tests.performance.mixed.results import Moment, read_moments
from tests.services import ROOT, python_module


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The service alone, on an embedded database."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "APP_ENVIRONMENT": "development",
        "APP_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/development.sqlite3",
        "APP_TOKEN_SECRET": SECRET,
    }
    made = python_module("migrations", "expand", **settings)
    assert made.returncode == 0, made.stderr
    command = ["uvicorn", "--factory", "app.main:create_app", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**settings, "PATH": os.environ["PATH"]},
            stdout=log,
            stderr=log,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, server, tmp_path / "log")
            yield url
        finally:
            server.terminate()
            server.wait(20)


def _wait(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 40
    while True:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            httpx.get(f"{url}/health")
        except httpx.ConnectError:
            time.sleep(0.1)
        else:
            return


def test_a_load_is_the_mix_that_it_says(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mixed, "RESULTS", tmp_path / "load")
    options = ["--target", site, "--users", "2", "--rate", "30", "--seconds", "6"]
    assert mixed.main(options) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    found = re.findall(r"^(\w+) +(\d+) +(\d+) +[0-9.]+ ", told, re.MULTILINE)
    counts = {name: int(requests) for name, requests, _ in found}
    assert {failed for _, _, failed in found} == {"0"}
    together = counts.pop("together")
    assert sum(counts.values()) == together > 50
    # Chosen by chance: far from exact with so few, but nothing is missing and the order is right.
    assert counts["list"] > counts["detail"] > max(counts["create"], counts["health"]) > 0
    assert "requests a second" in told
    kept = {path.name for path in (tmp_path / "load/last").iterdir()}
    assert {"load_stats.csv", "load_stats_history.csv", "report.html"} <= kept
    assert "tokens" not in kept
    assert (tmp_path / "load/password").stat().st_mode & 0o777 == 0o600
    listed = httpx.get(f"{site}/api/v1/items").json()
    assert listed["total"] >= counts["create"]


def test_the_picture_begins_when_all_visitors_are_there(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    lines = ["Timestamp,Name,95%,Total Request Count"]
    # The fourth line counts anew; the last but one is late by a second.
    for second, count in ((100, 0), (101, 70), (102, 180), (103, 40), (104, 140), (106, 360)):
        lines += [f"{second},,N/A,0", f"{second},Aggregated,{second - 90},{count}"]
    history.write_text("\n".join(lines) + "\n")
    assert read_moments(history) == [Moment(1, 100.0, 14.0), Moment(3, 110.0, 16.0)]


def test_a_site_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mixed, "RESULTS", tmp_path / "load")
    assert mixed.main(["--target", "http://127.0.0.1:9", "--seconds", "5"]) == 1
    assert "http://127.0.0.1:9 cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--users", "0"], ["--seconds", "6000"], ["--users", "many"]])
def test_what_is_not_bounded_is_refused(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        mixed.main(wrong)
    assert "is no number from" in capsys.readouterr().err
