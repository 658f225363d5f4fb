"""What a run has written and not loaded, because it was cut off, is loaded by the next one."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.plays import run_play

ROOT = Path(__file__).parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
FOLDER = "/var/lib/slipway-pending/"


def tasks_of(role: Path) -> list[dict[str, Any]]:
    return [
        task
        for path in sorted(role.glob("tasks/*.yml"))
        for task in yaml.safe_load(path.read_text())
    ]


def handlers_of(role: Path) -> list[dict[str, Any]]:
    path = role / "handlers/main.yml"
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text()) if path.exists() else []
    return found


def marks_of(role: Path) -> dict[str, str]:
    """The mark of each topic that is notified by a task which writes files."""
    found = {}
    for task in tasks_of(role):
        arguments = task.get("config_files")
        if arguments and "notify" in task and "undo" not in arguments:
            assert "pending" in arguments, task["name"]
            assert task["notify"] not in found, task["name"]
            found[task["notify"]] = arguments["pending"]
        elif arguments:
            # The role `app` has a file of its own that tells the same.
            assert "pending" not in arguments, task["name"]
    return found


def clears(handler: dict[str, Any]) -> bool:
    """Whether it is a handler that takes a mark away."""
    file = handler.get("ansible.builtin.file", {})
    return file.get("state") == "absent" and str(file["path"]).startswith(FOLDER)


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_a_mark_is_taken_away_last_and_only_when_all_went_well(role: Path) -> None:
    handlers = handlers_of(role)
    marks = marks_of(role)
    for topic, mark in marks.items():
        concerned, topics = [], {topic}
        for handler in handlers:
            if topics & {handler["name"], handler.get("listen")}:
                concerned.append(handler)
                topics |= {handler["notify"]} if "notify" in handler else set()
        *others, last = concerned
        assert others, topic
        assert clears(last), topic
        assert last["ansible.builtin.file"]["path"] == mark
        # A handler that fails keeps those behind it from nothing: force_handlers.
        asked = last["when"] if isinstance(last["when"], list) else [last["when"]]
        assert asked == [f"{other['register']} is success" for other in others]
        assert not any(map(clears, others))
    assert sum(map(clears, handlers)) == len(marks)


def test_no_mark_has_the_name_of_another() -> None:
    found = [mark for role in ROLES for mark in marks_of(role).values()]
    assert len(found) == len(set(found)) > 10
    for mark in found:
        assert re.fullmatch(rf"{FOLDER}[a-z]+(-[a-z]+)?(-{{{{ [a-z_]+ }}}})?", mark)


def test_the_certificate_is_marked_before_it_is_asked_for() -> None:
    tls = ROOT / "roles/tls"
    first, second, *_ = yaml.safe_load((tls / "tasks/certificate.yml").read_text())
    assert [file["path"] for file in first["config_files"]["files"]] == [
        marks_of(tls)[second["notify"]]
    ]


def test_a_handler_that_fails_leaves_the_mark(tmp_path: Path) -> None:
    mark = tmp_path / "pending" / "store"
    restart, note = json.loads(
        json.dumps(handlers_of(ROOT / "roles/redis")).replace(f"{FOLDER}store", str(mark))
    )
    del restart["ansible.builtin.systemd_service"]
    restart["ansible.builtin.command"] = "test -e {{ up }}"
    file = {
        "path": str(tmp_path / "file"),
        "content": "x",
        "owner": "{{ me }}",
        "group": "{{ my }}",
    }
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {
                "config_files": {"files": [file], "pending": str(mark)},
                "notify": restart["name"],
            },
            {"meta": "flush_handlers"},
        ],
        "handlers": [restart, note],
    }
    up = tmp_path / "up"
    given = {
        "up": str(up),
        "me": tmp_path.owner(),
        "my": tmp_path.group(),
        "ansible_python_interpreter": sys.executable,
    }
    options = ("-i", "localhost,", "-c", "local", "-e", json.dumps(given))
    failed = run_play(tmp_path, play, *options)
    assert failed.returncode, failed.stdout
    assert mark.exists()
    up.touch()
    mended = run_play(tmp_path, play, *options)
    assert not mended.returncode, mended.stdout
    assert not mark.exists()
    assert "changed=0" in run_play(tmp_path, play, *options).stdout
