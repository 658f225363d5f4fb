"""The module that restarts a release with new settings, and puts the old ones back."""

import grp
import json
import os
import pwd
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway_release.errors import LockedError
from slipway_release.lock import Holder, OperationLock, holder_of
from tests.roles.plays import run_play
from tests.roles.test_config_files import run as config_files

ROOT = Path(__file__).parents[2]
#: A systemd whose units fail by what the settings say: the preflight, the web part, the worker.
#: It keeps what a restart finds in the lock, as one who looks at it then.
SYSTEMCTL = """#!{python}
import fcntl, json, pathlib, sys
folder = pathlib.Path("{folder}")
settings = json.loads((folder / "environment").read_text())
verb, *names = [word for word in sys.argv[1:] if not word.startswith("--")]
with (folder / "asked").open("a") as file:
    print(verb, *names, settings["value"], file=file)
units = json.loads((folder / "units").read_text())
if verb == "list-units":
    print("".join(f"{{name}} loaded active running\\n" for name in units), end="")
elif verb == "show":
    state = units[names[0]]
    print(f"ActiveState={{state}}\\nNRestarts=0\\nActiveEnterTimestampMonotonic=0")
elif verb == "start" and (warned := settings.get("warning")):
    (folder / "said").write_text("Looking.\\n" + warned + "\\n")
elif verb == "start" and (told := settings.get("preflight")):
    (folder / "said").write_text("Looking.\\n" + told + "\\n")
    sys.exit(1)
elif verb in ("try-restart", "restart"):
    lock = folder / "run/quay.lock"
    try:
        fcntl.flock(lock.open(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        (folder / "holder").write_text(lock.read_text())
    for name in names:
        kind = "worker" if ".worker@" in name else "web"
        units[name] = "activating" if settings.get(kind) else "active"
        if settings.get(kind):
            (folder / "said").write_text(settings[kind] + "\\n")
    (folder / "units").write_text(json.dumps(units))
"""
JOURNALCTL = """#!/bin/sh
case "$*" in *--sync*) exit;; esac
cat {folder}/said
"""
#: Who runs this may own files without being root.
OWN = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
#: Somebody who releases.
RELEASE = Holder("quay", "release", "v1.5.0", "ann@desk", 0, "watch", "release-1")
WEB, WORKER = "quay@v1.0.0.service", "quay.worker@v1.0.0.service"


@dataclass(frozen=True)
class Host:
    """A host whose release runs with the settings of its file `environment`."""

    folder: Path

    @property
    def undo(self) -> Path:
        return self.folder / "state/settings-before.json"

    @property
    def lock(self) -> Path:
        return self.folder / "run/quay.lock"

    def write(self, **settings: str) -> None:
        """What the role does before it restarts."""
        file = {"path": str(self.folder / "environment"), "content": json.dumps(settings), **OWN}
        new = {"path": str(self.folder / "secret"), "content": "new", "mode": "0600", **OWN}
        answer = config_files(files=[file], undo=str(self.undo))
        assert answer["changed"]
        assert "failed" not in config_files(files=[new], undo=str(self.undo))
        assert self.undo.stat().st_mode & 0o777 == 0o600

    def given(self, *, preflight: bool = True, wait: int = 120) -> dict[str, Any]:
        """What the role gives to the module."""
        return {
            "app": "quay",
            "current": str(self.folder / "current"),
            "lock": str(self.lock),
            "wait": wait,
            "preflight": preflight,
            "processes": ["quay.worker@*.service"],
            "undo": str(self.undo),
        }

    def restart(
        self, *, preflight: bool = True, wait: int = 120, proved: bool = True
    ) -> dict[str, Any]:
        """Runs the module as a host would; answers what it says."""
        given = self.given(preflight=preflight, wait=wait)
        module = ROOT / "roles/app/library/restart_release.py"
        program = (
            "import sys; from ansible.module_utils.testing import patch_module_args\n"
            "import ansible.module_utils, json, runpy\n"
            f"ansible.module_utils.__path__.append({str(ROOT / 'roles/app/module_utils')!r})\n"
            "with patch_module_args(json.load(sys.stdin)):\n"
            f"    runpy.run_path({str(module)!r}, run_name='__main__')\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(given),
            env={**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.stdout, result.stderr
        answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        assert self.undo.exists() is not proved
        assert holder_of(self.lock) is None or not proved
        return answer

    def value(self) -> str:
        settings: dict[str, str] = json.loads((self.folder / "environment").read_text())
        return settings["value"]

    def asked(self, *verbs: str) -> list[str]:
        """What systemd was asked for, each with the settings of then."""
        asked = self.folder / "asked"
        lines = asked.read_text().splitlines() if asked.exists() else []
        return [line for line in lines if line.partition(" ")[0] in verbs]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "bin").mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
        path = tmp_path / "bin" / name
        path.write_text(text.format(python=sys.executable, folder=tmp_path))
        path.chmod(0o755)
    (tmp_path / "environment").write_text(json.dumps({"value": "old"}))
    (tmp_path / "units").write_text(json.dumps({WEB: "active", WORKER: "active"}))
    (tmp_path / "current").symlink_to("releases/v1.0.0")
    return Host(tmp_path)


def test_settings_that_the_preflight_takes_are_restarted_with(host: Host) -> None:
    host.write(value="new")
    answer = host.restart()
    assert answer["changed"]
    assert answer["restarted"] == [WEB, WORKER]
    assert host.asked("start", "try-restart", "restart") == [
        "start quay-preflight@v1.0.0.service new",
        f"try-restart {WEB} new",
        f"try-restart {WORKER} new",
    ]
    assert (host.folder / "secret").read_text() == "new"


def test_what_the_preflight_warns_of_is_told_and_keeps_nothing_back(host: Host) -> None:
    warning = "Warning: The bucket harbuor cannot be listed, so files get 503."
    host.write(value="new", warning=warning)
    answer = host.restart()
    assert answer["restarted"] == [WEB, WORKER]
    assert answer["told"] == [warning]
    said = f"quay runs with its new settings, of which its preflight says: {warning}"
    assert said in str(answer["warnings"])
    host.write(value="newer", warning="Looking again.")
    assert host.restart()["told"] == []


def test_settings_that_the_preflight_refuses_never_meet_what_runs(host: Host) -> None:
    host.write(value="new", preflight="APP_LOG_LEVEL is debgu, which is no level.")
    answer = host.restart()
    assert answer["failed"]
    assert "quay does not run with its new settings: APP_LOG_LEVEL is debgu" in answer["msg"]
    assert "Correct the new ones in the inventory (app_environment" in answer["msg"]
    assert answer["msg"].endswith(
        "\n    | Looking.\n    | APP_LOG_LEVEL is debgu, which is no level."
    )
    assert host.value() == "old"
    assert not (host.folder / "secret").exists()
    assert host.asked("try-restart", "restart", "stop") == []
    # systemd knows the old files again, and the unit does not stay failed.
    assert host.asked("daemon-reload")[-1] == "daemon-reload old"
    assert "reset-failed quay-preflight@v1.0.0.service new" in host.asked("reset-failed")


def test_a_preflight_that_fails_as_before_is_not_about_the_settings(host: Host) -> None:
    away = "The database is at revision 0042, which this release does not know."
    (host.folder / "environment").write_text(json.dumps({"value": "old", "preflight": away}))
    host.write(value="new", preflight=away)
    answer = host.restart()
    assert answer["changed"]
    assert answer["unproved"] == away
    assert away in str(answer["warnings"])
    assert host.value() == "new"
    host.write(value="newer", preflight="APP_LOG_LEVEL is debgu, which is no level.")
    assert "debgu" in host.restart()["msg"]
    assert host.value() == "new"


@pytest.mark.parametrize("kind", ["web", "worker"])
def test_what_does_not_come_up_is_started_again_with_the_old_settings(
    host: Host, kind: str
) -> None:
    host.write(value="new", **{kind: "KeyError: 'GREETING'"})
    answer = host.restart(preflight=False)
    assert answer["failed"]
    assert "quay does not run with its new settings: KeyError: 'GREETING'" in answer["msg"]
    assert host.value() == "old"
    assert not (host.folder / "secret").exists()
    assert host.asked("try-restart", "restart", "start") == [
        f"try-restart {WEB} new",
        f"try-restart {WORKER} new",
        f"restart {WEB} old",
        f"restart {WORKER} old",
    ]
    assert json.loads((host.folder / "units").read_text()) == {WEB: "active", WORKER: "active"}


def test_what_does_not_come_up_again_is_named(host: Host) -> None:
    (host.folder / "environment").write_text(json.dumps({"value": "old", "web": "No room."}))
    host.write(value="new", web="KeyError: 'GREETING'")
    said = host.restart(preflight=False)["msg"]
    assert (
        f"Those of before are back, but {WEB} did not come up again (`systemctl status`)." in said
    )


def test_what_was_down_before_does_not_keep_the_new_settings_back(host: Host) -> None:
    (host.folder / "units").write_text(json.dumps({WEB: "active", WORKER: "activating"}))
    host.write(value="new", worker="No mail today.")
    assert "failed" not in host.restart(preflight=False)
    assert host.value() == "new"


def test_where_no_release_is_live_there_is_nothing_to_prove(host: Host) -> None:
    (host.folder / "units").write_text("{}")
    (host.folder / "current").unlink()
    host.write(value="new", preflight="There is no database yet.")
    answer = host.restart()
    assert not answer["changed"]
    assert host.asked("start", "try-restart", "restart") == []


def test_several_changes_of_a_file_lead_back_to_the_first(host: Host) -> None:
    host.write(value="new")
    config_files(
        files=[
            {
                "path": str(host.folder / "environment"),
                "content": json.dumps({"value": "newer", "preflight": "No."}),
                **OWN,
            }
        ],
        exclusive=[str(host.folder / "secret")],
        undo=str(host.undo),
    )
    assert "No." in host.restart()["msg"]
    assert host.value() == "old"
    assert not (host.folder / "secret").exists()


def test_a_check_keeps_nothing(host: Host) -> None:
    file = {"path": str(host.folder / "environment"), "content": "other", **OWN}
    assert config_files(check=True, files=[file], undo=str(host.undo))["changed"]
    assert not host.undo.exists()


def test_a_release_that_is_under_way_is_not_disturbed(host: Host) -> None:
    host.write(value="new")
    with OperationLock(host.lock, RELEASE):
        answer = host.restart(wait=0, proved=False)
    assert answer["failed"]
    assert answer["msg"] == (
        "quay was not restarted with its new settings: ann@desk has been running `release v1.5.0` "
        "since 1970-01-01 00:00:00 UTC (now at: watch), and was waited for 0 s. They are written "
        "and not proved yet. Wait for the end (`journalctl -fu slipway-quay-release`) and run the "
        "playbook again."
    )
    assert host.asked("start", "try-restart", "restart", "daemon-reload") == []
    # The next run does it.
    assert host.restart()["restarted"] == [WEB, WORKER]


def test_a_release_that_ends_in_time_is_waited_for(host: Host) -> None:
    host.write(value="new")
    lock = OperationLock(host.lock, RELEASE)
    lock.__enter__()
    ended: list[list[str]] = []

    def end() -> None:
        time.sleep(2)
        ended.append(host.asked("start", "try-restart"))
        lock.__exit__(None, None, None)

    ending = threading.Thread(target=end)
    ending.start()
    answer = host.restart()
    ending.join()
    assert ended == [[]]
    assert answer["restarted"] == [WEB, WORKER]


def test_who_releases_meanwhile_is_told_of_the_restart(host: Host) -> None:
    assert not host.lock.parent.exists()
    host.write(value="new")
    host.restart()
    holder = Holder(**json.loads((host.folder / "holder").read_text()))
    assert str(holder).startswith("playbook.yml has been running `restart v1.0.0` of quay since ")
    assert host.lock.parent.stat().st_mode & 0o777 == 0o755
    assert host.lock.stat().st_mode & 0o777 == 0o644
    with OperationLock(host.lock, holder), pytest.raises(LockedError, match=r"restart v1\.0\.0"):
        OperationLock(host.lock, RELEASE).__enter__()


def test_the_role_and_the_host_tool_mean_the_same_lock() -> None:
    of_app, of_release = (
        yaml.safe_load((ROOT / f"roles/{name}/vars/main.yml").read_text())
        for name in ("app", "release")
    )
    told = of_release["__release_settings"]["lock"]
    assert of_app["__app_lock"] == told.replace("release_app", "app_name")


def test_ansible_sends_the_parts_of_the_module_along(host: Host) -> None:
    host.write(value="new")
    tasks = [
        # Only now does Ansible know where the modules of the role are.
        {"import_role": {"name": "app", "tasks_from": "checks"}, "when": False},
        {"restart_release": host.given(wait=0)},
    ]
    play = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
    with OperationLock(host.lock, RELEASE):
        result = run_play(
            host.folder,
            play,
            *("-i", "localhost,", "-c", "local"),
            *("-e", f"ansible_python_interpreter={sys.executable}"),
        )
    assert "quay was not restarted with its new settings: ann@desk" in result.stdout, result
