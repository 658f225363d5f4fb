"""The module that restarts a release with new settings, and puts the old ones back."""

import grp
import json
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.roles.test_config_files import run as config_files

ROOT = Path(__file__).parents[2]
#: A systemd whose units fail by what the settings say: the preflight, the web part, the worker.
SYSTEMCTL = """#!{python}
import json, pathlib, sys
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
elif verb == "start" and (told := settings.get("preflight")):
    (folder / "said").write_text("Looking.\\n" + told + "\\n")
    sys.exit(1)
elif verb in ("try-restart", "restart"):
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
WEB, WORKER = "quay@v1.0.0.service", "quay.worker@v1.0.0.service"


@dataclass(frozen=True)
class Host:
    """A host whose release runs with the settings of its file `environment`."""

    folder: Path

    @property
    def undo(self) -> Path:
        return self.folder / "state/settings-before.json"

    def write(self, **settings: str) -> None:
        """What the role does before it restarts."""
        file = {"path": str(self.folder / "environment"), "content": json.dumps(settings), **OWN}
        new = {"path": str(self.folder / "secret"), "content": "new", "mode": "0600", **OWN}
        answer = config_files(files=[file], undo=str(self.undo))
        assert answer["changed"]
        assert "failed" not in config_files(files=[new], undo=str(self.undo))
        assert self.undo.stat().st_mode & 0o777 == 0o600

    def restart(self, *, preflight: bool = True) -> dict[str, Any]:
        """Runs the module as a host would; answers what it says."""
        given = {
            "app": "quay",
            "current": str(self.folder / "current"),
            "preflight": preflight,
            "processes": ["quay.worker@*.service"],
            "undo": str(self.undo),
        }
        module = ROOT / "roles/app/library/restart_release.py"
        program = (
            "import sys; from ansible.module_utils.testing import patch_module_args\n"
            "import json, runpy\n"
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
        assert not self.undo.exists()
        return answer

    def value(self) -> str:
        settings: dict[str, str] = json.loads((self.folder / "environment").read_text())
        return settings["value"]

    def asked(self, *verbs: str) -> list[str]:
        """What systemd was asked for, each with the settings of then."""
        lines = (self.folder / "asked").read_text().splitlines()
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
