"""Makes this machine take pushes for one service; a second run changes nothing."""

import dataclasses
import json
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from deploy.push import keys
from deploy.push.errors import PushError
from deploy.push.host import Host
from deploy.push.settings import Settings

ROOT = Path("/")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,25}")
_REPOSITORY = {
    "receive.advertisePushOptions": "true",
    "receive.fsckObjects": "true",
    # A tag that is not taken must not fill the disk.
    "receive.maxInputSize": "512m",
    "receive.denyDeletes": "true",
    "receive.denyNonFastForwards": "true",
    # Whoever pushes does not wait for it.
    "receive.autogc": "false",
    "gc.auto": "0",
}


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        name: Of the service; None takes `app_name` of the inventory.
        kit: Clone of the kit.
        inventory: With the hosts of the service.
        keys: File of the public keys that may push.
        allowed_signers: File of those who may sign tags.
        arguments: Further arguments of ansible-playbook.
        downgrades: Whether a push may ask for an older version.
        check: Whether changes are only told.
    """

    name: str | None
    kit: Path
    inventory: Path
    keys: Path
    allowed_signers: Path
    arguments: tuple[str, ...] = ()
    downgrades: bool = False
    check: bool = False


def set_up(wish: Wish, say: Callable[[str], None]) -> None:
    """Make account, repository, hooks and keys, and tell what is left to do.

    Raises:
        PushError: It cannot work; the message says why and what to do.
    """
    name = wish.name or _name_of(wish)
    if _NAME.fullmatch(name) is None:
        raise PushError(f"{name!r} names no push repository: use NAME=…, of a-z, 0-9 and -.")
    settings = Settings(
        name=name,
        kit=wish.kit,
        inventory=wish.inventory,
        allowed_signers=Path(f"/etc/slipway-push/{name}.allowed_signers"),
        state=Path(f"/var/lib/slipway-push/{name}"),
        arguments=wish.arguments,
        downgrades=wish.downgrades,
    )
    path = Path(f"/etc/slipway-push/{name}.json")
    program = f"/usr/local/lib/slipway-push/{name}"
    # What is wrong with the files is said before anything is made.
    authorized = keys.authorized_keys(wish.keys, f"{program} serve")
    signers = _signers(wish.allowed_signers)
    host = Host(f"push-{name}", say, check=wish.check)
    host.account(settings.state)
    if host.exists:
        _require_kit(host, settings)
    _files(host, settings, path, program, signers)
    if host.exists:
        _repository(host, settings, program)
        _keys(host, settings, authorized)
        _let_in(host, name)
        _tell(host, settings, say)
    say("Nothing to change." if not host.changes else f"{host.changes} changes.")


def _name_of(wish: Wish) -> str:
    program = str(wish.kit / ".venv/bin/ansible-inventory")
    answer = subprocess.run(
        [program, f"--inventory={wish.inventory}", *wish.arguments, "--list"],
        check=False,
        capture_output=True,
        text=True,
        cwd=wish.kit,
        stdin=subprocess.DEVNULL,
    )
    if answer.returncode:
        raise PushError(f"The inventory {wish.inventory} cannot be read: {answer.stderr.strip()}")
    listed = json.loads(answer.stdout)
    hosts = listed.get("app", {}).get("hosts", [])
    name = listed["_meta"]["hostvars"].get(hosts[0], {}).get("app_name") if hosts else None
    if not isinstance(name, str):
        raise PushError(f"{wish.inventory} names no app_name for its group app: use NAME=….")
    return name


def _signers(path: Path) -> str:
    try:
        text = path.read_text()
    except OSError as error:
        raise PushError(f"Who may sign tags cannot be read: {path}: {error.strerror}.") from error
    if not any(line.strip() and not line.startswith("#") for line in text.splitlines()):
        raise PushError(f"{path} lists nobody who may sign tags: no push could be taken.")
    return text


def _require_kit(host: Host, settings: Settings) -> None:
    program: list[str | Path] = [settings.kit / ".venv/bin/python", "-P", "-c"]
    program += ["import os, sys; os.chdir(sys.argv[1]); os.listdir()", settings.kit]
    answer = host.attempt_as(program, ROOT)
    if answer.returncode:
        said = (answer.stderr.strip() or "no reason given").splitlines()[-1]
        raise PushError(
            f"The account {host.user} cannot use the kit in {settings.kit} ({said}): clone it to a "
            f"folder that everybody may read, such as /opt/slipway, and see that its Python "
            f"({(settings.kit / '.venv/bin/python').resolve()}) is one that everybody may run."
        )


def _files(host: Host, settings: Settings, path: Path, program: str, signers: str) -> None:
    for folder in (path.parent, Path(program).parent):
        host.folder(folder, 0o755, owned=False)
    host.folder(settings.state)
    for name in ("runs", "cache", "ansible"):
        host.folder(settings.state / name)
    host.folder(settings.state / ".ssh", 0o700)
    host.file(settings.allowed_signers, signers)
    host.file(path, settings.text())
    python = shlex.quote(str(settings.kit / ".venv/bin/python"))
    host.file(
        Path(program),
        f"#!/bin/sh\n# Written by `make push-host`.\nexport PYTHONDONTWRITEBYTECODE=1\n"
        f"export PYTHONPATH={shlex.quote(str(settings.kit))}\n"
        f'exec {python} -P -m deploy.push --settings={shlex.quote(str(path))} "$@"\n',
        0o755,
    )


def _repository(host: Host, settings: Settings, program: str) -> None:
    repository = settings.repository
    if not (repository / "HEAD").exists() and not host.check:
        host.run_as(["git", "init", "--quiet", "--bare", repository], ROOT)
    host.folder(repository)
    if host.check and not repository.exists():
        return
    git = ["git", f"--git-dir={repository}", "config"]
    for key, value in _REPOSITORY.items():
        if host.attempt_as([*git, "--get", key], ROOT).stdout.strip() != value and not host.check:
            host.run_as([*git, key, value], ROOT)
    for hook in ("pre-receive", "post-receive"):
        host.file(repository / "hooks" / hook, f"#!/bin/sh\nexec {program} {hook}\n", 0o755)


def _keys(host: Host, settings: Settings, authorized: str) -> None:
    host.file(settings.state / ".ssh/authorized_keys", authorized)
    key = settings.state / ".ssh/id_ed25519"
    if not key.exists() and not host.check:
        options = ["-q", "-t", "ed25519", "-N", "", "-C", host.user, "-f", str(key)]
        host.run_as(["ssh-keygen", *options], ROOT)


def _let_in(host: Host, name: str) -> None:
    """Let sshd take the account where it takes the members of certain groups only."""
    asked = f"user={host.user},host=localhost,addr=127.0.0.1"
    settings = host.run(["/usr/sbin/sshd", "-T", "-C", asked]).splitlines()
    groups = [line.split()[1] for line in settings if line.startswith("allowgroups ")]
    # Further AllowGroups add to those before (sshd_config(5)).
    path = Path(f"/etc/ssh/sshd_config.d/60-slipway-push-{name}.conf")
    if (groups and host.user not in groups) or path.exists():
        text = f"# Written by `make push-host`.\nAllowGroups {host.user}\n"
        if host.file(path, text) and not host.check:
            _reload_sshd(host, path)


def _reload_sshd(host: Host, path: Path) -> None:
    try:
        host.run(["/usr/sbin/sshd", "-t"])
    except PushError:
        path.unlink()
        raise
    host.run(["systemctl", "try-reload-or-restart", "ssh.service"])


def _tell(host: Host, settings: Settings, say: Callable[[str], None]) -> None:
    if host.check:
        return
    command = [str(settings.kit / ".venv/bin/ansible"), f"--inventory={settings.inventory}"]
    command += [*settings.arguments, "--module-name=ansible.builtin.raw", "--args=true", "app"]
    answer = host.attempt_as([*command, "--one-line"], settings.kit)
    say(f"Push to: {host.user}@{socket.gethostname()}:{settings.repository.name}")
    if answer.returncode == 0:
        say("It reaches every host of the group app.")
        return
    public = (settings.state / ".ssh/id_ed25519.pub").read_text().strip()
    say("It does not reach every host of the group app yet:")
    for line in (answer.stdout.strip() + "\n" + answer.stderr.strip()).strip().splitlines():
        say(f"  {line}")
    say("Its public key belongs to the user that Ansible comes as: where ansible_user is")
    say("base_admin_user, into base_admin_keys of the inventory (then run playbook.yml);")
    say("else into the authorized_keys of that user:")
    say(f"  {public}")
    say(f"and the host keys of the hosts into {settings.state}/.ssh/known_hosts (ssh-keyscan(1)).")
