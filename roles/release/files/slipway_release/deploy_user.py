"""Run a program as the deploy user, without root's rights and without its environment."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway_release.errors import FailedError
from slipway_release.settings import Settings

# Compiling and unpacking must not take the processors from the release that serves.
_NICE = ("nice", "-n", "10")


def run(
    settings: Settings,
    arguments: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program as the owner of the releases and wait for it.

    The environment is made new: PYTHONDONTWRITEBYTECODE, a proxy or an index of whoever calls
    must not change what is installed.

    Raises:
        FailedError: It did not end well; with the last lines that it said.
    """
    command = [*_NICE, *(str(argument) for argument in arguments)]
    answer = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        umask=0o022,
        **_identity(settings.deploy_user),
    )
    if answer.returncode:
        lines = tuple(line for line in answer.stdout.splitlines() if line.strip())
        name = Path(arguments[0]).name
        raise FailedError(lines[-1] if lines else f"{name}: {_ending(answer.returncode)}", lines)


def _identity(name: str) -> dict[str, Any]:
    user = _user(name)
    if user.pw_uid == os.geteuid():
        return {}
    groups = [group.gr_gid for group in grp.getgrall() if name in group.gr_mem]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}


def own(settings: Settings, path: Path) -> None:
    """Make a folder that belongs to the deploy user, unless it is there."""
    if not path.is_dir():
        path.mkdir(mode=0o755, parents=True)
        user = _user(settings.deploy_user)
        if user.pw_uid != os.geteuid():
            os.chown(path, user.pw_uid, user.pw_gid)


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        message = f"The user {name} who owns the releases does not exist: run playbook.yml first."
        raise FailedError(message) from error


def _ending(status: int) -> str:
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"exit status {status}"
