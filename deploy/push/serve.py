"""What a key that may push can do: push to the one repository, and ask how releases went.

sshd runs this instead of what the client asked for (`command=` in sshd(8)), and names that in
SSH_ORIGINAL_COMMAND.
"""

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Never

from deploy.artifact.errors import ArtifactError
from deploy.artifact.repository import Repository
from deploy.push import hooks, lock, release, runs
from deploy.push.errors import PushError
from deploy.push.gate import ALLOW_DOWNGRADE, require_downgrades
from deploy.push.runs import Run
from deploy.push.settings import Settings

_SHOWN = 10


def serve(settings: Settings, path: Path, key: str, wanted: str, say: Callable[[str], None]) -> int:
    """Do what a client asked for.

    Args:
        settings: Of the repository.
        path: Where they were read from.
        key: Name of the client's key.
        wanted: The client's command.
        say: Called with each line of an answer.

    Returns:
        The exit status of the answer.

    Raises:
        PushError: It is nothing that this key can do.
    """
    try:
        words = shlex.split(wanted)
    except ValueError:
        words = []
    match words:
        case ["git-receive-pack", name] if _is_ours(settings, name):
            receive_pack(settings, key, os.environ)
        case ["git-receive-pack", name]:
            raise PushError(f"{name} is not here: this key pushes to {settings.repository.name}.")
        case ["status"]:
            return _status(settings, say)
        case ["log", *version] if len(version) <= 1:
            return _log(settings, version[0] if version else None, say)
        case ["release", version, *options] if set(options) <= {f"--{ALLOW_DOWNGRADE}"}:
            return _release(settings, path, Run(version, key, runs.now(), bool(options)), say)
    raise PushError(
        f"This key pushes signed version tags to {settings.repository.name}, and knows the "
        f"commands: status · log [VERSION] · release VERSION [--{ALLOW_DOWNGRADE}]."
    )


def receive_pack(settings: Settings, key: str, environment: Mapping[str, str]) -> Never:
    """Become git's end of a push."""
    kept = {name: text for name, text in environment.items() if not name.startswith("GIT_")}
    if protocol := environment.get("GIT_PROTOCOL"):
        kept["GIT_PROTOCOL"] = protocol
    os.execvpe(  # noqa: S606
        "git",
        ["git", "receive-pack", str(settings.repository)],
        {**kept, hooks.PUSHER: key},
    )


def _is_ours(settings: Settings, name: str) -> bool:
    known = settings.repository
    short = name.removeprefix("~/").removeprefix("/")
    return short in (known.name, settings.name) or name == str(known)


def _status(settings: Settings, say: Callable[[str], None]) -> int:
    say(f"{lock.holder_of(settings.lock) or 'No release is running'}.")
    for run in runs.newest(settings.runs)[:_SHOWN]:
        say(str(run))
    return 0


def _log(settings: Settings, version: str | None, say: Callable[[str], None]) -> int:
    found = runs.newest(settings.runs, version)
    if not found:
        raise PushError(f"No release of {version or 'any version'} was started by a push here.")
    return release.follow(settings, found[0], say)


def _release(settings: Settings, path: Path, run: Run, say: Callable[[str], None]) -> int:
    if run.downgrade:
        require_downgrades(settings)
    try:
        # It is verified again by the playbook, like every release.
        Repository(settings.repository).tag(run.version)
    except ArtifactError as error:
        raise PushError(str(error)) from error
    return hooks.begin(settings, path, run, say)
