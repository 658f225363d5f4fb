"""The parts that an operation relies on: lock, states, history, settings, room."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway_release import durable, history, room, settings, units
from slipway_release.errors import LockedError, RefusedError
from slipway_release.history import Entry
from slipway_release.keep import kept_versions
from slipway_release.lock import Holder, OperationLock, holder_of
from slipway_release.manifest import read
from slipway_release.settings import Settings
from slipway_release.state import Operation, Release, Store
from tests.release.world import KIND, artifact

HOLDER = Holder("quay", "release", "v1.0.0", "Ada", 0.0, "unpack", "1")
VALUES: dict[str, Any] = {
    "app": "quay",
    "root": "/srv/quay",
    "state": "/var/lib/slipway/quay",
    "sockets": "/run/quay",
    "lock": "/run/slipway/quay.lock",
    "deploy_user": "deploy",
    "python": "/usr/bin/python3",
    "health_path": "/health",
    "ready_path": "/health/ready",
    "version_key": "release",
    "smoke_url": "https://quay.test/health",
    "smoke_address": "127.0.0.1",
    "smoke_certificates": "",
    "smoke_certificate_name": "",
    "has_preflight": True,
    "has_migrations": True,
    "has_contract": True,
    "has_restore_point": True,
    "keep_restore_points": 3,
    "keep": 3,
    "ready_seconds": 10,
    "smoke_seconds": 5.5,
    "watch_seconds": 1,
    "watch_error_ratio": 0.05,
    "watch_minimum_requests": 20,
    "warm_up_requests": 20,
    "free_megabytes": 0,
    "metrics": "/var/lib/slipway/quay/metrics.prom",
    "announcements": "/etc/slipway/quay/announcements.json",
    "run_properties": "/etc/slipway/quay/run.conf",
    "console_command": "",
    "workers": ["mail"],
    "timers": [],
}


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """Settings of a service whose files lie in a folder of the test."""
    root, state = tmp_path / "srv", tmp_path / "state"
    (root / "releases").mkdir(parents=True)
    state.mkdir()
    return dataclasses.replace(settings.parse(json.dumps(VALUES), "x"), root=root, state=state)


def release(here: Settings, version: str, **changes: Any) -> Release:
    known = Release(version, "installed", "good", "d", "c")
    known = dataclasses.replace(known, **changes)
    here.release(version).mkdir()
    Store(here).save(known)
    return known


def test_the_lock_names_its_holder_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "run/quay.lock"
    program = (
        "import sys, time; from pathlib import Path\n"
        "from slipway_release.lock import Holder, OperationLock\n"
        f"with OperationLock(Path({str(path)!r}), {HOLDER!r}):\n"
        "    print('held', flush=True); time.sleep(30)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=r"Ada has been running `release v1\.0\.0`"):
            OperationLock(path, HOLDER).__enter__()
        assert holder_of(path) == HOLDER
        process.kill()
    assert holder_of(path) is None
    with OperationLock(path, HOLDER) as lock:
        lock.step("migrate")
        holder = holder_of(path)
        assert holder is not None
        assert holder.step == "migrate"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"root": "srv"}, "root is 'srv', which is no Path"),
        ({"keep": 1}, "keep must be 2 or more"),
        ({"keep": True}, "keep is True"),
        ({"keep": -1}, "keep is -1"),
        ({"app": "Quay;"}, "app is 'Quay;'"),
        ({"smoke_url": "quay.test"}, "which is no URL"),
        ({"keep_restore_points": 0}, "keep_restore_points must be 1 or more"),
        ({"has_preflight": "yes"}, "has_preflight is 'yes'"),
        ({"console_command": "python -c 'x"}, "console_command has an open quotation mark"),
        ({"workers": "mail"}, "workers is 'mail'"),
        ({"timers": ["a b"]}, "which is no tuple"),
        ({"more": 1}, "unknown more"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, object], reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        settings.parse(json.dumps({**VALUES, **change}), "quay.json")


def test_a_missing_setting_is_named() -> None:
    values = {name: value for name, value in VALUES.items() if name != "state"}
    with pytest.raises(RefusedError, match="missing state; unknown nothing"):
        settings.parse(json.dumps(values), "quay.json")


def test_the_only_service_needs_no_name(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="There is no service"):
        settings.load(None, tmp_path)
    (tmp_path / "quay.json").write_text(json.dumps(VALUES))
    assert settings.load(None, tmp_path).app == "quay"
    (tmp_path / "pier.json").write_text(json.dumps({**VALUES, "app": "pier"}))
    with pytest.raises(RefusedError, match="several services"):
        settings.load(None, tmp_path)
    assert settings.load("pier", tmp_path).app == "pier"
    with pytest.raises(RefusedError, match="There is no service dock here, only: pier, quay"):
        settings.load("dock", tmp_path)


def test_a_torn_line_spoils_only_itself(here: Settings) -> None:
    entry = Entry("1", "release", "v1.0.0", None, "Ada", 0.0, 1.0, 2.0, "good", "", {})
    history.add(here, entry)
    with history.path(here).open("a") as stream:
        stream.write('{"id": "2", "verb"')
    history.add(here, dataclasses.replace(entry, id="3"))
    assert [found.id for found in history.read(here)] == ["1", "3"]


def test_states_survive(here: Settings) -> None:
    store = Store(here)
    known = release(here, "v1.0.0", activated=2.0)
    assert store.get("v1.0.0") == known
    assert store.get("v2.0.0") is None
    operation = Operation("1", "release", "v1.0.0", None, "Ada", 0.0)
    store.save_operation(operation)
    assert store.operation() == operation
    store.end_operation()
    store.end_operation()
    assert store.operation() is None


def test_a_link_of_someone_else_is_refused(here: Settings) -> None:
    store = Store(here)
    assert store.current() is None
    durable.point(here.current, "releases/v1.0.0")
    assert store.current() == "v1.0.0"
    durable.point(here.current, "/tmp/v1.0.0")
    with pytest.raises(RefusedError, match="which is no release"):
        store.current()


def test_the_last_good_release(here: Settings) -> None:
    release(here, "v1.0.0", activated=1.0)
    release(here, "v1.1.0", activated=5.0)
    release(here, "v1.2.0", activated=3.0)
    release(here, "v1.3.0", activated=9.0, verdict="withdrawn")
    release(here, "v1.4.0", verdict="failed")
    release(here, "v1.5.0", activated=8.0, stage="incomplete")
    durable.point(here.current, "releases/v1.1.0")
    assert Store(here).last_good() == "v1.2.0"


def test_the_best_ways_back_are_kept(here: Settings) -> None:
    for number, verdict in enumerate(["good", "good", "good", "withdrawn", "failed"]):
        release(here, f"v1.{number}.0", activated=float(number), verdict=verdict)
    durable.point(here.current, "releases/v1.0.0")
    kept = kept_versions(Store(here), 3, set(), "v1.3.0")
    assert kept == {"v1.0.0", "v1.3.0", "v1.2.0"}


def test_what_is_needed_is_kept_whatever_the_number(here: Settings) -> None:
    for number, verdict in enumerate(["good", "good", "withdrawn", "withdrawn", "failed"]):
        release(here, f"v1.{number}.0", activated=float(number), verdict=verdict)
    durable.point(here.current, "releases/v1.1.0")
    store = Store(here)
    # The live one and the way back, although what served before is younger.
    assert kept_versions(store, 2, set(), "v1.3.0") == {"v1.1.0", "v1.0.0"}
    assert kept_versions(store, 0, {"v1.4.0"}) == {"v1.1.0", "v1.0.0", "v1.4.0"}


def test_a_release_that_does_not_fit_is_refused(
    here: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "running", lambda _: set())
    archive = tmp_path / "quay.tar"
    artifact(archive, "v1.0.0", {"main.py": "x" * 1_000_000})
    assert room.require(here, read(archive), KIND) == "2 MB needed"
    greedy = dataclasses.replace(here, free_megabytes=10**9)
    for number in range(3):
        known = release(here, f"v0.{number}.0", activated=float(number))
        with (here.release(known.version) / "big").open("wb") as stream:
            stream.write(bytes(2_000_000))
    durable.point(here.current, "releases/v0.0.0")
    with pytest.raises(RefusedError) as refused:
        room.require(greedy, read(archive), KIND)
    said = str(refused.value)
    assert "v1.0.0 needs 1000000002 MB on the disk of" in said
    assert re.search(r"free \d+ MB, for example with `", said)
    # The live one and the way back are needed.
    assert "`slipway prune --keep=2` (v0.1.0: about 2 MB)" in said
    assert "sort -h | tail` (what else is there)." in said
