"""The plays release and rollback, on hosts that are folders behind a stand-in for ssh."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.test_artifact import ROOT, Workshop, git

ANSIBLE = Path(sys.executable).with_name("ansible-playbook")

# The last argument of ssh is the command, the one before it the host. A name space of its own
# gives each host its own /etc, /var/lib and /usr/local/sbin, and makes its user root.
SSH = """#!/bin/sh
for last; do host=$command; command=$last; done
case "$*" in *"-O exit"*|*"-V"*) exit 0;; esac
cd {folder}/$host || exit 255
exec unshare --user --map-root-user --mount sh -c 'mount --bind etc /etc && mount --bind lib \
/var/lib && mount --bind sbin /usr/local/sbin && exec sh -c "$1"' sh "$command"
"""

# What the role `release` installs, as far as the plays see it.
SLIPWAY = """#!/usr/bin/python3
import json, pathlib, sys
state = pathlib.Path("/var/lib/slipway/quay")
current = state / "current"
live = current.read_text() if current.exists() else None
arguments = sys.argv[2:]
with (state / "asked").open("a") as log:
    print(*arguments, file=log)
assert sys.argv[1] == "--app=quay"
if arguments[0] == "status":
    known = {"current": live, "back": "v1.0.0" if live != "v1.0.0" else None}
    print(json.dumps(known) if "--json" in arguments else f"quay: {live} is live")
elif (state / "fails").exists():
    print("  preflight      0.10 s  failed")
    print("    | RuntimeError: the keel is broken")
    sys.exit(1)
else:
    plain = [one for one in arguments[1:] if not one.startswith("-")]
    version = plain[0] if plain else "v1.0.0"
    current.write_text(version)
    print("  switch         0.01 s")
    print(f"{version} is live: done after 0.1 s")
"""

INVENTORY = """
all:
  vars:
    ansible_ssh_executable: {folder}/ssh
    ansible_ssh_transfer_method: piped
    ansible_python_interpreter: /usr/bin/python3
    ansible_become: false
    app_name: quay
    app_asgi: main:app
    tls_domains: [quay.test]
    tls_email: a@quay.test
    release_repository: {repository}
    release_allowed_signers: {signers}
app: {{hosts: {{web1: , web2: }}}}
"""


class Fleet:
    """Two hosts and the operator who releases to them."""

    hosts = ("web1", "web2")

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.folder = workshop.folder / "fleet"
        for host in self.hosts:
            self._make(self.folder / host)
        ssh = self.folder / "ssh"
        ssh.write_text(SSH.format(folder=self.folder))
        ssh.chmod(0o755)
        self.inventory = self.folder / "hosts.yml"
        self.inventory.write_text(
            INVENTORY.format(
                folder=self.folder, repository=workshop.repository, signers=workshop.signers
            )
        )

    @staticmethod
    def _make(folder: Path) -> None:
        for name in ("etc/slipway", "lib/slipway/quay/incoming", "sbin"):
            (folder / name).mkdir(parents=True)
        for name in ("passwd", "group"):
            shutil.copy(Path("/etc") / name, folder / "etc")
        settings = {"python": "/usr/bin/python3", "state": "/var/lib/slipway/quay"}
        (folder / "etc/slipway/quay.json").write_text(json.dumps(settings))
        program = folder / "sbin/slipway"
        program.write_text(SLIPWAY)
        program.chmod(0o755)

    def state(self, host: str) -> Path:
        return self.folder / host / "lib/slipway/quay"

    def live(self) -> list[str]:
        return [(self.state(host) / "current").read_text() for host in self.hosts]

    def put(self, **versions: str) -> None:
        for host, version in versions.items():
            (self.state(host) / "current").write_text(version)

    def asked(self, host: str) -> list[str]:
        """What the host's slipway was told to do, questions left out."""
        log = self.state(host) / "asked"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if not line.startswith("status")]

    def play(self, verb: str, *arguments: str) -> tuple[int, str]:
        links = f"{os.environ.get('PIP_FIND_LINKS', '')} {self.workshop.index}"
        result = subprocess.run(
            [str(ANSIBLE), "-i", str(self.inventory), f"deploy/{verb}.yml", *arguments],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "400", "PIP_FIND_LINKS": links},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        output = result.stdout + result.stderr
        assert "Traceback" not in output
        assert "\\n" not in output
        return result.returncode, output

    def release(self, version: str, *arguments: str) -> tuple[int, str]:
        return self.play("release", "-e", f"release={version}", *arguments)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    trial = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    if shutil.which("unshare") is None or subprocess.run(trial, check=False).returncode:
        pytest.skip("this machine lets nobody make name spaces")
    workshop = Workshop(tmp_path_factory.mktemp("plays"))
    for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
        workshop.commit({"quay/main.py": f"print('{version}')\n"})
        workshop.tag(version)
    return Fleet(workshop)


@pytest.fixture(autouse=True)
def _fresh(fleet: Fleet) -> None:
    fleet.put(web1="v1.0.0", web2="v1.0.0")
    for host in fleet.hosts:
        (fleet.state(host) / "asked").unlink(missing_ok=True)
        (fleet.state(host) / "fails").unlink(missing_ok=True)


def test_a_release_reaches_every_host(fleet: Fleet) -> None:
    status, output = fleet.release("v1.1.0")
    assert status == 0, output
    assert fleet.live() == ["v1.1.0", "v1.1.0"]
    assert output.count("v1.1.0 is live: done after 0.1 s") == 2
    artifact = fleet.state("web2") / "incoming/quay-v1.1.0.tar"
    assert artifact.stat().st_mode & 0o777 == 0o644
    (asked,) = fleet.asked("web2")
    assert asked.startswith("release v1.1.0 --sha256=")
    assert f"@{os.uname().nodename}" in asked


def test_a_release_that_fails_stops_before_the_next_host(fleet: Fleet) -> None:
    (fleet.state("web1") / "fails").touch()
    status, output = fleet.release("v1.1.0")
    assert status != 0
    assert "| RuntimeError: the keel is broken" in output
    assert fleet.live() == ["v1.0.0", "v1.0.0"]
    assert fleet.asked("web2") == []


def test_hosts_switched_before_a_failure_go_back(fleet: Fleet) -> None:
    (fleet.state("web2") / "fails").touch()
    status, output = fleet.release("v1.1.0")
    assert status != 0
    assert "the keel is broken" in output
    assert "v1.1.0 is not live on web2:" in output
    assert "web1: v1.0.0 is live" in output
    assert fleet.live() == ["v1.0.0", "v1.0.0"]
    assert [line.split()[0] for line in fleet.asked("web1")] == ["release", "rollback"]


def test_a_release_goes_on_where_another_ended(fleet: Fleet) -> None:
    fleet.put(web1="v1.1.0")
    status, output = fleet.release("v1.1.0")
    assert status == 0, output
    assert fleet.live() == ["v1.1.0", "v1.1.0"]
    assert fleet.asked("web1") == []


def test_what_is_live_everywhere_is_refused_before_it_is_built(fleet: Fleet) -> None:
    status, output = fleet.release("v1.0.0")
    assert status != 0
    assert "v1.0.0 is already live on web1, web2" in output
    assert "Build the artifact" not in output
    assert fleet.asked("web1") == []


def test_a_check_tells_and_changes_nothing(fleet: Fleet) -> None:
    status, output = fleet.release("v1.2.0", "--check")
    assert status == 0, output
    assert "web1, web2: v1.0.0 → v1.2.0 (upgrade)" in output
    assert "Order: web1 alone, then web2" in output
    assert "Dependencies: unchanged" in output
    assert "Restore point: none" in output
    commits = git(fleet.workshop.repository, "log", "--format=%h", "v1.0.0..v1.2.0").split()
    assert len(commits) == 2
    assert all(commit in output for commit in commits)
    assert not (fleet.state("web1") / "incoming/quay-v1.2.0.tar").exists()
    assert fleet.asked("web1") == []
    assert fleet.live() == ["v1.0.0", "v1.0.0"]


def test_a_check_tells_each_live_version_apart(fleet: Fleet) -> None:
    fleet.put(web1="v1.1.0")
    status, output = fleet.release("v1.2.0", "--check", "-e", "release_batches=2")
    assert status == 0, output
    assert "web1: v1.1.0 → v1.2.0 (upgrade)" in output
    assert "web2: v1.0.0 → v1.2.0 (upgrade)" in output
    assert fleet.live() == ["v1.1.0", "v1.0.0"]


def test_a_release_without_a_version_is_told_how(fleet: Fleet) -> None:
    status, output = fleet.play("release")
    assert status != 0
    assert "Say which tag to release: -e release=vX.Y.Z" in output


def test_a_tag_that_may_not_be_released_is_one_sentence(fleet: Fleet) -> None:
    repository = fleet.workshop.repository
    status, output = fleet.release("v9.9.9")
    assert status != 0
    assert "There is no tag v9.9.9" in output
    git(repository, "tag", "-f", "v3.0.0")
    status, output = fleet.release("v3.0.0")
    assert status != 0
    assert "which nobody can sign" in output
    stray = repository / "stray.txt"
    stray.write_text("not committed")
    git(repository, "add", "stray.txt")
    try:
        status, output = fleet.release("v1.1.0")
    finally:
        git(repository, "rm", "-q", "-f", "stray.txt")
    assert status != 0
    assert "uncommitted changes in stray.txt" in output
    assert fleet.asked("web1") == []


def test_without_a_file_of_signers_nothing_is_released(fleet: Fleet) -> None:
    text = fleet.inventory.read_text()
    lines = [line for line in text.splitlines() if "release_allowed_signers" not in line]
    fleet.inventory.write_text("\n".join(lines))
    try:
        status, output = fleet.release("v1.1.0")
    finally:
        fleet.inventory.write_text(text)
    assert status != 0
    assert f"{fleet.folder}/allowed_signers is not there" in output


def test_a_host_that_was_not_prepared_is_named(fleet: Fleet) -> None:
    settings = fleet.folder / "web2/etc/slipway/quay.json"
    text = settings.read_text()
    settings.unlink()
    try:
        status, output = fleet.release("v1.1.0")
    finally:
        settings.write_text(text)
    assert status != 0
    assert "web2: It takes no releases of quay yet" in output
    assert fleet.asked("web1") == []


def test_a_rollback_returns_every_host(fleet: Fleet) -> None:
    fleet.put(web1="v1.1.0", web2="v1.1.0")
    status, output = fleet.play("rollback")
    assert status == 0, output
    assert fleet.live() == ["v1.0.0", "v1.0.0"]
    assert output.count("v1.0.0 is live: done") == 2
    status, output = fleet.play("rollback", "-e", "release=v1.1.0")
    assert status == 0, output
    assert fleet.live() == ["v1.1.0", "v1.1.0"]


def test_a_rollback_that_fails_says_why_and_stops(fleet: Fleet) -> None:
    fleet.put(web1="v1.1.0", web2="v1.1.0")
    (fleet.state("web1") / "fails").touch()
    status, output = fleet.play("rollback")
    assert status != 0
    assert "the keel is broken" in output
    assert fleet.asked("web2") == []


def test_a_rollback_can_be_tried_first(fleet: Fleet) -> None:
    fleet.put(web1="v1.1.0", web2="v1.1.0")
    status, output = fleet.play("rollback", "--check")
    assert status == 0, output
    assert "web2: v1.1.0 → v1.0.0" in output
    assert fleet.asked("web1") == []


def test_a_rollback_without_a_good_release_before_is_refused(fleet: Fleet) -> None:
    status, output = fleet.play("rollback")
    assert status != 0
    assert "web1 has no good release to return to: it serves v1.0.0" in output
    assert fleet.asked("web1") == []
