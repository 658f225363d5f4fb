"""Labs on this machine: up, up again, side by side, after a crash, and gone without a trace."""

import json
import os
import shutil
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab import settings

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("systemd-nspawn") is None,
    reason="a lab needs root and systemd-nspawn (package systemd-container)",
)


def lab(state: Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "deploy.lab", "--state", str(state), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def traces(state: Path) -> list[str]:
    """What of a lab is on this machine, outside its folder."""
    key = settings.identity(state)
    run = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    found = [line for line in (run + tables.stdout).splitlines() if key in line]
    found += [line for line in Path("/etc/hosts").read_text().splitlines() if str(state) in line]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(state) in line]
    for hierarchy in ("systemd", "unified", "."):
        found += [str(group) for group in Path("/sys/fs/cgroup", hierarchy).glob(f"*{key}*")]
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                words = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except OSError:
                continue
            if f"{state}/".encode() in words:
                found.append(f"process {folder.name}: {words[:80]!r}")
    return found


@pytest.fixture
def states(tmp_path: Path) -> Iterator[list[Path]]:
    folders = [tmp_path / "one", tmp_path / "two"]
    yield folders
    for state in folders:
        lab(state, "down")


def test_two_labs_live_side_by_side_and_leave_nothing(states: list[Path]) -> None:
    for state in states:
        lab(state, "up")
    one, two = (json.loads(lab(state, "status", "--json")) for state in states)
    assert one["domain"] != two["domain"]
    assert one["hosts"][0]["address"] != two["hosts"][0]["address"]
    assert "runs already" in lab(states[0], "up")
    for described in (one, two):
        name = subprocess.run(
            [*described["hosts"][0]["ssh"], "hostname && systemctl is-system-running --wait"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert name.stdout.split() == ["web1", "running"]
    lab(states[0], "down")
    assert traces(states[0]) == []
    assert subprocess.run([*two["hosts"][0]["ssh"], "true"], check=False).returncode == 0
    lab(states[1], "down")
    assert traces(states[1]) == []


def test_what_a_host_sends_is_kept_and_not_delivered(states: list[Path]) -> None:
    state = states[0]
    lab(state, "up", "--mail-port", "2025")
    described = json.loads(lab(state, "inventory"))["all"]["vars"]
    folder = Path(json.loads(lab(state, "status", "--json"))["mail"])
    server = (folder / "server.pid").read_text()
    with smtplib.SMTP(described["lab_mail_host"], described["lab_mail_port"]) as client:
        for text in ("Ahoy", "Ahoy again"):
            message = f"Subject: {text}\r\n\r\nGrüße\r\n".encode()
            client.sendmail("harbour@lab.test", ["ada@example.com"], message)
    kept = [path.read_text() for path in sorted(folder.glob("*.eml"))]
    assert [text.splitlines()[0] for text in kept] == ["Subject: Ahoy", "Subject: Ahoy again"]
    assert "Grüße" in kept[0]
    assert list(folder.glob(".*")) == []
    # A lab that runs already goes on with the same server, and one that died comes back.
    lab(state, "up")
    assert (folder / "server.pid").read_text() == server
    os.kill(int(server.split()[0]), signal.SIGKILL)
    lab(state, "up")
    assert (folder / "server.pid").read_text() != server
    assert len(list(folder.glob("*.eml"))) == 2
    lab(state, "down")
    assert traces(state) == []
    assert not folder.exists()


def test_a_host_outlives_a_power_cut_with_what_it_wrote(states: list[Path]) -> None:
    state = states[0]
    lab(state, "up")
    described = json.loads(lab(state, "status", "--json"))
    host = described["hosts"][0]
    subprocess.run([*host["ssh"], "echo kept > /etc/kept && sync"], check=True)
    lab(state, "power-cut")
    assert subprocess.run([*host["ssh"], "true"], check=False, capture_output=True).returncode
    lab(state, "start")
    kept = subprocess.run(
        [*host["ssh"], "cat /etc/kept"], capture_output=True, text=True, check=True
    )
    assert kept.stdout == "kept\n"


def test_what_a_crash_leaves_is_taken_away_too(states: list[Path]) -> None:
    state = states[0]
    lab(state, "up")
    # Everything that watches over the host dies at once, and the rest knows nothing of it.
    for name in ("supervisor.pid", "nspawn.pid"):
        record = state / "hosts/web1" / name
        os.kill(int(record.read_text().split()[0]), signal.SIGKILL)
        record.unlink()
    lab(state, "down")
    assert traces(state) == []
    assert "no lab" in lab(state, "down")
