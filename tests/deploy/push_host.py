"""A repository that is released by pushes, in a folder: real git, real hooks, a real playbook.

Only sshd is left out; `tests/hosts/verify/test_push.py` has it. The playbook here waits for a file
and fails for one version, so that a test decides how long a release takes and how it ends.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from deploy.push.hooks import PUSHER
from deploy.push.settings import Settings

ROOT = Path(__file__).parents[2]

PLAYBOOK = """\
- hosts: app
  gather_facts: false
  connection: local
  tasks:
    - name: Tell what is released
      ansible.builtin.debug:
        msg: "released {{ release }} downgrade {{ release_allow_downgrade }} {{ by }}"
      vars:
        by: "{{ lookup('env', 'SLIPWAY_BY') }}"
    - name: Tell what git would be misled by
      ansible.builtin.debug:
        msg: "variables[{{ lookup('env', 'GIT_DIR') }}{{ lookup('env', 'SSH_ORIGINAL_COMMAND') }}]"
    - name: Wait
      ansible.builtin.wait_for:
        path: "{{ playbook_dir }}/../go"
        timeout: 60
        sleep: 1
      vars:
        ansible_python_interpreter: "{{ ansible_playbook_python }}"
    - name: End badly
      ansible.builtin.fail:
        msg: the rudder is broken
      when: release == 'v6.6.6'
"""


class PushHost:
    """The push repository `quay`, a clone that pushes to it, and the keys of both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work, self.kit = folder / "work", folder / "kit"
        self.key, signers = folder / "key", folder / "signers"
        self.make_key(self.key)
        signers.write_text(f'a@quay.test namespaces="git" {self.public(self.key)}\n')
        self._make_kit()
        self.settings = Settings(
            "quay", self.kit, self.kit / "hosts.ini", signers, folder / "state"
        )
        self.path = folder / "quay.json"
        self.allow_downgrades(yes=False)
        self._make_repository()
        self._make_work()

    @staticmethod
    def make_key(path: Path) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True)

    @staticmethod
    def public(key: Path) -> str:
        return key.with_suffix(".pub").read_text().strip()

    def allow_downgrades(self, *, yes: bool) -> None:
        fields = {**vars(self.settings), "downgrades": yes}
        self.settings = Settings(**fields)
        self.path.write_text(self.settings.text())

    def go(self) -> None:
        """Lets releases come to their end."""
        (self.kit / "go").touch()

    def hold(self) -> None:
        """Lets releases wait."""
        (self.kit / "go").unlink()

    def git(self, *arguments: str) -> str:
        answer = subprocess.run(
            ["git", "-C", str(self.work), *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
        )
        return answer.stdout.strip()

    def tag(self, name: str, *options: str, key: Path | None = None) -> None:
        self.git("commit", "--quiet", "--allow-empty", "-m", f"Change for {name}")
        sign = ("-c", f"user.signingkey={key or self.key}", "-c", "gpg.format=ssh")
        self.git(*sign, "tag", *(options or ("-s", "-m", name)), name)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a push whose output is read by the test."""
        return subprocess.Popen(
            ["git", "-C", str(self.work), "push", "origin", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._variables(),
            start_new_session=True,
        )

    def push(self, *arguments: str) -> tuple[int, str]:
        """Pushes to the end; answers the exit status and what was said."""
        with self.begin(*arguments) as process:
            said = process.communicate(timeout=120)[0]
        return process.returncode, said

    def ask(self, command: str) -> tuple[int, str]:
        """What the forced command answers to a client."""
        answer = subprocess.run(
            [self._shell(), "host", command],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env=self._variables(),
            stdin=subprocess.DEVNULL,
        )
        return answer.returncode, answer.stdout + answer.stderr

    def tags(self) -> list[str]:
        """Every reference that the repository has."""
        command = [
            "git",
            "-C",
            str(self.settings.repository),
            "for-each-ref",
            "--format=%(refname)",
        ]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        return answer.stdout.split()

    def _variables(self) -> dict[str, str]:
        return {
            **os.environ,
            "GIT_SSH_COMMAND": self._shell(),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            PUSHER: "mallory",
        }

    def _shell(self) -> str:
        return str(self.folder / "ssh")

    def _make_kit(self) -> None:
        (self.kit / "deploy").mkdir(parents=True)
        for name in ("__init__.py", "push", "artifact"):
            (self.kit / "deploy" / name).symlink_to(ROOT / "deploy" / name)
        (self.kit / ".venv").symlink_to(sys.prefix)
        (self.kit / "deploy/release.yml").write_text(PLAYBOOK)
        (self.kit / "hosts.ini").write_text("[app]\nquay1\n")

    def _make_repository(self) -> None:
        self.settings.runs.mkdir(parents=True)
        repository = self.settings.repository
        subprocess.run(["git", "init", "--quiet", "--bare", str(repository)], check=True)
        config = ["git", "-C", str(repository), "config", "receive.advertisePushOptions", "true"]
        subprocess.run(config, check=True)
        program = (
            f"cd {shlex.quote(str(self.kit))} && "
            f"exec {shlex.quote(sys.executable)} -m deploy.push --settings={self.path}"
        )
        for hook in ("pre-receive", "post-receive"):
            place = repository / "hooks" / hook
            place.write_text(f"#!/bin/sh\n{program} {hook}\n")
            place.chmod(0o755)
        shell = self.folder / "ssh"
        # As sshd does: the client's words in a variable, the command of its key instead of them.
        shell.write_text(
            f'#!/bin/sh\nwhile [ "$1" = -o ]; do shift 2; done\nshift\n'
            f'export SSH_ORIGINAL_COMMAND="$*"\n{program} serve --key=alice\n'
        )
        shell.chmod(0o755)

    def _make_work(self) -> None:
        subprocess.run(["git", "init", "--quiet", "-b", "main", str(self.work)], check=True)
        for name, value in {
            "user.name": "Alice",
            "user.email": "a@quay.test",
            "remote.origin.url": "push-quay@host:quay.git",
        }.items():
            self.git("config", name, value)
