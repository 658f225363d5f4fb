"""A host with the kit on it takes pushes of signed tags, by a real sshd, and releases them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.hosts.machine import Machine
from tests.hosts.repository import ROOT, Repository

VERSION = "v0.1.9"
KIT = "/opt/slipway"
NEEDED = ("--exclude=__pycache__", "--exclude=ansible_test")
SET_UP = (
    f"cd {KIT} && .venv/bin/python -m deploy.push set-up --inventory=/etc/fleet.ini "
    f"--keys=/etc/pushers --allowed-signers=/etc/signers"
)


@dataclass(frozen=True)
class Pusher:
    """A clone and a key that may push."""

    repository: Repository
    key: Path
    address: str

    @property
    def ssh(self) -> list[str]:
        options = {
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": str(self.key.with_name("known_hosts")),
        }
        return ["ssh", "-i", str(self.key), *(f"-o{key}={text}" for key, text in options.items())]

    def push(self, *tags: str) -> subprocess.CompletedProcess[str]:
        remote = f"push-harbour@{self.address}:harbour.git"
        return subprocess.run(
            ["git", "-C", str(self.repository.path), "push", remote, *tags],
            check=False,
            capture_output=True,
            text=True,
            timeout=180,
            env={**os.environ, "GIT_SSH_COMMAND": " ".join(self.ssh)},
        )

    def ask(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.ssh, *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )


def send(machine: Machine, folder: Path, place: str, *tar: str) -> None:
    """Copies a folder, or a part of it, to the host."""
    packed = subprocess.run(
        ["tar", "--create", "--owner=0", "--group=0", f"--directory={folder}", *tar],
        check=True,
        capture_output=True,
    )
    machine.put(packed.stdout, "/var/tmp/sent.tar")
    machine.run(
        f"mkdir -p {place} && tar --extract --file=/var/tmp/sent.tar --directory={place} && "
        f"rm /var/tmp/sent.tar"
    )


def put_kit(machine: Machine, folder: Path) -> None:
    """Puts the kit on the host, with the environment that `make push-host` would make there.

    A lab host reaches no package index, so its packages are installed here for its Python.
    """
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    files = folder / "files"
    files.write_bytes(tracked.stdout)
    send(machine, ROOT, KIT, "--null", f"--files-from={files}")
    locked = folder / "locked.txt"
    uv = Path(sys.executable).with_name("uv")
    export = ("export", "--quiet", "--frozen", "--only-group=controller", f"--output-file={locked}")
    subprocess.run([uv, *export], cwd=ROOT, check=True, capture_output=True)
    options = ("--only-binary=:all:", "--no-deps", "--require-hashes", "--no-compile")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", f"--target={folder / 'site'}"),
            *("--python-version=3.13", *options, f"--requirement={locked}"),
        ],
        check=True,
        capture_output=True,
    )
    collections = folder / "site/ansible_collections"
    unused = [path for path in collections.iterdir() if path.name != "ansible"]
    others = [f"--exclude=./ansible_collections/{path.name}" for path in unused]
    site = f"{KIT}/.venv/lib/python3.13/site-packages"
    machine.run(f"umask 022; python3 -m venv --without-pip {KIT}/.venv")
    send(machine, folder / "site", site, *NEEDED, *others, ".")
    for program in ("ansible", "ansible-playbook", "ansible-inventory"):
        start = (
            f"#!{KIT}/.venv/bin/python\nfrom ansible.cli.{program.partition('-')[2] or 'adhoc'} "
        )
        text = f"{start}import main\nimport sys\nsys.exit(main())\n"
        machine.put(text.encode(), f"{KIT}/.venv/bin/{program}")
    machine.run(f"cp {site}/bin/uv {KIT}/.venv/bin/uv; chmod 755 {KIT}/.venv/bin/*")


@pytest.fixture(scope="module")
def pusher(
    machine: Machine, repository: Repository, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pusher]:
    if machine.run("test -e /usr/bin/python3.13", check=False).returncode:
        pytest.skip("the controller needs Python 3.12 or newer, which this distribution lacks")
    folder = tmp_path_factory.mktemp("push")
    machine.run("DEBIAN_FRONTEND=noninteractive apt-get -qq install git python3-venv", seconds=300)
    put_kit(machine, folder)
    key = folder / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ada", "-f", str(key)]
    subprocess.run(command, check=True)
    machine.put(key.with_suffix(".pub").read_bytes(), "/etc/pushers")
    machine.put(repository.allowed_signers.read_bytes(), "/etc/signers")
    machine.put(
        f"[app]\nweb1 ansible_host=127.0.0.1 ansible_user=admin app_name={machine.app} "
        f"app_asgi=x:y tls_domains=[] tls_email=x\n".encode(),
        "/etc/fleet.ini",
    )
    before = machine.release()
    yield Pusher(repository, key, machine.address)
    # The tests after these know which release was there before theirs.
    if machine.release() != before:
        machine.run(f"slipway rollback {before}")


def test_the_set_up_tells_what_is_left_and_changes_nothing_twice(
    machine: Machine, pusher: Pusher
) -> None:
    assert pusher.key.exists()
    first = machine.run(SET_UP).stdout
    assert "made the account push-harbour" in first
    assert "does not reach every host" in first
    key = next(line.strip() for line in first.splitlines() if "ssh-ed25519 AAAA" in line)
    home = "/var/lib/slipway-push/harbour"
    machine.run(
        f"echo '{key}' >>/home/admin/.ssh/authorized_keys && "
        f"ssh-keyscan -t ed25519 127.0.0.1 >{home}/.ssh/known_hosts 2>/dev/null"
    )
    second = machine.run(SET_UP).stdout
    assert "It reaches every host of the group app." in second
    assert "Nothing to change." in second
    # Those who could enter before still can: this connection, and the account's own groups.
    assert machine.run("sshd -T | grep -ic '^allowgroups'").stdout.strip() not in {"0", "1"}


def test_a_pushed_tag_is_released(machine: Machine, pusher: Pusher, client: httpx.Client) -> None:
    pusher.repository.tag(VERSION)
    wheels = ROOT / ".slipway/wheels"
    # The wheels that the controller has fetched are the cache of this one.
    send(machine, wheels, "/var/lib/slipway-push/harbour/cache/wheels", ".")
    machine.run("chown -R push-harbour: /var/lib/slipway-push/harbour/cache")
    pushed = pusher.push(VERSION)
    assert pushed.returncode == 0, pushed.stderr
    assert f"remote: {VERSION} is live." in pushed.stderr
    assert client.get("/health").json()["release"] == VERSION
    assert "by ada by push" in machine.run("slipway history --last=1").stdout
    assert pusher.ask("push-harbour@" + machine.address, "log").returncode == 0


def test_a_tag_that_nobody_signed_is_not_taken(machine: Machine, pusher: Pusher) -> None:
    before = machine.release()
    pusher.repository.git("tag", "--force", "--no-sign", "v0.1.10")
    pushed = pusher.push("v0.1.10")
    assert pushed.returncode != 0
    assert "v0.1.10 is a lightweight tag" in pushed.stderr
    branch = pusher.push("HEAD:refs/heads/main")
    assert "is not a tag" in branch.stderr
    assert machine.release() == before


@pytest.mark.parametrize("command", [(), ("id",), ("git-upload-pack", "harbour.git"), ("-t", "sh")])
def test_the_key_opens_no_shell(machine: Machine, pusher: Pusher, command: tuple[str, ...]) -> None:
    answer = pusher.ask(f"push-harbour@{machine.address}", *command)
    assert answer.returncode == 1
    assert "uid=" not in answer.stdout
    assert "This key pushes signed version tags to harbour.git" in answer.stderr


def test_the_key_forwards_nothing(machine: Machine, pusher: Pusher) -> None:
    forward = pusher.ask("-W", "127.0.0.1:22", f"push-harbour@{machine.address}")
    assert forward.returncode != 0
    assert "SSH-2.0" not in forward.stdout
    root = machine.run("runuser -u push-harbour -- sudo -n true", check=False)
    assert root.returncode != 0
