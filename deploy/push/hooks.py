"""What git calls in the repository: `pre-receive` and `post-receive` of githooks(5)."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from deploy.push import release, runs
from deploy.push.errors import PushError
from deploy.push.gate import ALLOW_DOWNGRADE, admit, updates_of
from deploy.push.runs import Run
from deploy.push.settings import Settings

PUSHER = "SLIPWAY_PUSHER"


def pre_receive(settings: Settings, lines: Iterable[str]) -> int:
    """Let a push in, or refuse it as a whole.

    Raises:
        PushError: It is refused; git shows the message to whoever pushes.
    """
    # git shows the repository itself and what was pushed in two folders, which it names in its
    # variables; the name of the repository would be relative to another folder.
    os.environ.pop("GIT_DIR", None)
    admit(settings, updates_of(lines), push_options())
    return 0


def post_receive(
    settings: Settings, path: Path, lines: Iterable[str], say: Callable[[str], None]
) -> int:
    """Release what was let in, and tell how it goes until its end.

    Returns:
        The exit status of the release, which git does not hand on: the tag is in already.
    """
    version = updates_of(lines)[0].version
    downgrade = ALLOW_DOWNGRADE in push_options()
    run = Run(version, os.environ.get(PUSHER, "unknown"), runs.now(), downgrade)
    return begin(settings, path, run, say)


def begin(settings: Settings, path: Path, run: Run, say: Callable[[str], None]) -> int:
    """Start a release and follow it to its end.

    Returns:
        Its exit status.
    """
    try:
        release.start(settings, path, run)
    except PushError as error:
        say(f"{run.version} is in, but not released. {error} Then: {_again(run)}")
        return 1
    say(f"Releasing {run.version}; it goes on when this connection ends (log {run.version}).")
    status = release.follow(settings, run, say)
    if status == 0:
        say(f"{run.version} is live.")
    else:
        say(f"{run.version} is NOT released (see above). Once the cause is gone: {_again(run)}")
    return status


def push_options() -> list[str]:
    """Return what was given with `git push -o`."""
    count = int(os.environ.get("GIT_PUSH_OPTION_COUNT", "0"))
    return [os.environ[f"GIT_PUSH_OPTION_{number}"] for number in range(count)]


def _again(run: Run) -> str:
    return f"ssh with the same key, command `release {run.version}`."
