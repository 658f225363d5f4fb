"""Who may become root on a host: whom the inventory names, and nobody whom it named before."""

import grp
import json
import os
import pwd
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.plays import run_play
from tests.roles.rendering import ROOT

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ada"


def refuse(folder: Path, **settings: Any) -> str:
    """What the role says of settings; '' when it takes them."""
    tasks = [
        task
        for task in yaml.safe_load((ROOT / "roles/base/tasks/main.yml").read_text())
        if "base_admin_keys" in str(task.get("ansible.builtin.assert", ""))
    ]
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROOT / "roles/base/defaults/main.yml")],
        "tasks": [*tasks, {"ansible.builtin.debug": {"msg": "taken"}}],
    }
    playbook = folder / "refuse.json"
    playbook.write_text(json.dumps([play]))
    program = Path(sys.executable).with_name("ansible-playbook")
    result = subprocess.run(
        [str(program), "-i", "localhost,", "-e", json.dumps(settings), str(playbook)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DISPLAY_OK_HOSTS": "true"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = " ".join((result.stdout + result.stderr).split())
    assert ("msg: taken" in said) is (result.returncode == 0), said
    return said if result.returncode else ""


def test_keys_without_their_user_are_refused(tmp_path: Path) -> None:
    said = refuse(tmp_path, base_admin_keys=[KEY])
    assert "localhost has base_admin_keys and no base_admin_user" in said
    assert "set base_admin_user to the name of the user to make" in said


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"base_admin_user": "operator"},
        {"base_admin_user": "operator", "base_admin_keys": [KEY]},
    ],
)
def test_both_or_neither_are_taken(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert refuse(tmp_path, **settings) == ""


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_who_is_told_to_give_keys_is_told_of_the_user(environment: str) -> None:
    path = ROOT / f"inventories/{environment}/group_vars/all/main.yml"
    assert {"base_admin_user", "base_admin_keys"} <= yaml.safe_load(path.read_text()).keys()
    for file in ("docs/releasing-by-push.md", "deploy/push/setup.py"):
        assert "base_admin_user" in (ROOT / file).read_text()


OPERATOR: dict[str, Any] = {"base_admin_user": "operator", "base_admin_keys": [KEY]}
#: As whom Ansible comes, unless a test says so.
VISITOR = "cloud"
PROGRAMS = {
    "id": 'if [ "$1" = -un ]; then cat "$HOST/visitor"; else echo "$2 sudo"; fi',
    "getent": 'test -d "$HOST/home/$2" && echo "$2:x:1:1::$HOST/home/$2:/bin/sh"',
    "gpasswd": 'echo "gpasswd $*" >>"$HOST/did"',
    "runuser": 'echo "runuser $1" >>"$HOST/did"; shift 2; exec "$@"',
}
#: They would make a user of this machine: a program writes down what they were asked for.
MAKERS = ("ansible.builtin.user", "ansible.posix.authorized_key")


class Host:
    """A host whose users are folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sudoers = folder / "sudoers"
        for name in ("operator", "ada", "deploy"):
            keys = folder / "home" / name / ".ssh/authorized_keys"
            keys.parent.mkdir(parents=True)
            keys.write_text(KEY)
        (folder / "visitor").write_text(VISITOR)
        programs = folder / "bin"
        programs.mkdir()
        for name, text in {**PROGRAMS, "ask": 'echo "$*" >>"$HOST/did"'}.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)

    def apply(self, **settings: Any) -> str:
        """Run the tasks about users; return what was said of them."""
        tasks = yaml.safe_load((ROOT / "roles/base/tasks/users.yml").read_text())
        for task in tasks:
            for maker in MAKERS:
                if wanted := task.pop(maker, None):
                    words = [maker.rpartition(".")[2], wanted.get("name", wanted.get("user"))]
                    task["ansible.builtin.command"] = {"argv": ["ask", *words]}
        return self.run(tasks, settings)

    def run(self, tasks: Any, settings: dict[str, Any], *arguments: str) -> str:
        """Run tasks of the role with settings; return the output."""
        file = yaml.safe_load((ROOT / "roles/base/vars/main.yml").read_text())[
            "__base_sudoers_file"
        ]
        del file["validate"]
        owner = pwd.getpwuid(os.getuid()).pw_name
        file |= {"owner": owner, "group": grp.getgrgid(os.getgid()).gr_name}
        file["content"] = file["content"].replace(
            "sudoers.j2", str(ROOT / "roles/base/templates/sudoers.j2")
        )
        programs = {
            "HOST": str(self.folder),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
        }
        for task in tasks:
            if raw := task.get("ansible.builtin.raw"):
                # It has no environment.
                words = [f"{name}={shlex.quote(value)}" for name, value in programs.items()]
                task["ansible.builtin.raw"] = f"export {' '.join(words)}; {raw}"
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "environment": programs,
            "vars_files": [
                str(ROOT / "roles/base/defaults/main.yml"),
                str(ROOT / "roles/base/vars/main.yml"),
            ],
            "tasks": tasks,
        }
        settings = {
            "__base_sudoers": str(self.sudoers),
            "__base_sudoers_file": file,
            "__base_deploy_home": str(self.folder / "home/deploy"),
            **settings,
        }
        result = run_play(
            self.folder, play, "-i", "localhost,", "-e", json.dumps(settings), *arguments
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return " ".join(result.stdout.split())

    def comes(self, visitor: str) -> None:
        """Let Ansible come as another user from now on."""
        (self.folder / "visitor").write_text(visitor)

    def did(self) -> list[str]:
        """Return what was done since the last question."""
        path = self.folder / "did"
        text = path.read_text() if path.exists() else ""
        path.unlink(missing_ok=True)
        return text.splitlines()

    def admins(self) -> list[str]:
        """Return who may become root without a password."""
        text = self.sudoers.read_text() if self.sudoers.exists() else ""
        return re.findall(r"^(\S+) ALL=\(ALL:ALL\) NOPASSWD: ALL$", text, re.MULTILINE)

    def keys_of(self) -> set[str]:
        """Return who still has keys."""
        return {path.parts[-3] for path in self.folder.glob("home/*/.ssh/authorized_keys")}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with an administrator, another user, and keys of the user that owns the releases."""
    found = Host(tmp_path)
    found.sudoers.write_text("# Ansible managed\noperator ALL=(ALL:ALL) NOPASSWD: ALL\n")
    return found


TAKEN = ["gpasswd --delete operator sudo", "runuser --user=operator"]


@pytest.mark.parametrize("settings", [{}, {"base_admin_user": "operator"}])
def test_the_last_administrator_can_be_taken_away(host: Host, settings: dict[str, Any]) -> None:
    host.apply(**settings, base_deploy_keys=[KEY])
    assert host.did() == ["user deploy", "authorized_key deploy", *TAKEN]
    assert not host.sudoers.exists()
    assert host.keys_of() == {"ada", "deploy"}


def test_who_had_another_name_before_is_locked_out_when_the_new_one_is_let_in(host: Host) -> None:
    host.apply(base_admin_user="ada", base_admin_keys=[KEY], base_deploy_keys=[KEY])
    assert host.did() == [
        "user deploy",
        "user ada",
        "authorized_key ada",
        "authorized_key deploy",
        *TAKEN,
    ]
    assert host.admins() == ["ada"]
    assert host.keys_of() == {"ada", "deploy"}


@pytest.mark.parametrize(
    "settings", [{}, {"base_admin_user": "ada", "base_admin_keys": [KEY]}], ids=["none", "renamed"]
)
def test_as_whom_ansible_comes_is_not_locked_out(host: Host, settings: dict[str, Any]) -> None:
    host.comes("operator")
    said = host.apply(**settings, base_deploy_keys=[KEY])
    assert "localhost keeps the keys and the rights of operator" in said
    assert not set(TAKEN) & set(host.did())
    new = [settings["base_admin_user"]] if settings else []
    assert host.admins() == [*new, "operator"]
    assert "operator" in host.keys_of()
    host.comes("ada")
    said = host.apply(**settings, base_deploy_keys=[KEY])
    assert "keeps the keys" not in said
    assert host.did()[-2:] == TAKEN
    assert host.admins() == new
    assert "operator" not in host.keys_of()


def test_nobody_is_touched_whom_the_role_has_not_made(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.apply(base_admin_user="ada", base_deploy_keys=[KEY])
    assert host.did() == ["user deploy", "authorized_key deploy"]
    assert host.keys_of() == {"operator", "ada", "deploy"}


def test_an_administrator_who_was_deleted_by_hand_keeps_nobody_waiting(host: Host) -> None:
    (host.folder / "home/operator").rename(host.folder / "gone")
    host.apply(base_deploy_keys=[KEY])
    assert host.did() == ["user deploy", "authorized_key deploy"]
    assert not host.sudoers.exists()


def test_the_keys_of_the_user_that_owns_the_releases_can_be_taken_away(host: Host) -> None:
    host.apply(**OPERATOR)
    assert host.did()[-1] == "runuser --user=deploy"
    assert host.keys_of() == {"operator", "ada"}
    host.apply(**OPERATOR)
    assert "runuser --user=deploy" not in host.did()


def test_a_check_of_a_bare_host_tells_of_users_with_keys(tmp_path: Path) -> None:
    tasks = yaml.safe_load((ROOT / "roles/base/tasks/users.yml").read_text())
    users = {"base_admin_user": "slipway-no-admin", "base_deploy_user": "slipway-no-deploy"}
    settings = {**users, "base_admin_keys": [KEY], "base_deploy_keys": [KEY]}
    host = Host(tmp_path)
    # Both users and the rights of one of them; the real modules, which change nothing.
    assert "changed=3 " in host.run(tasks, settings, "--check")
    assert not host.sudoers.exists()
    host.sudoers.write_text("operator ALL=(ALL:ALL) NOPASSWD: ALL\n")
    # The other user, his keys, and the rights of an administrator.
    assert "changed=3 " in host.run(tasks, {"base_deploy_user": "slipway-no-deploy"}, "--check")
    assert host.keys_of() == {"operator", "ada", "deploy"}
