"""The release that a push starts: it goes on when whoever pushed is gone."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.push import lock, runs
from deploy.push.runs import Run
from deploy.push.settings import Settings

# Exit status of a release of which nobody knows how it ended.
UNKNOWN = 75
_LOOK_SECONDS = 0.2
_PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def start(settings: Settings, path: Path, run: Run) -> None:
    """Start a release as a process of its own session, which holds the lock.

    Args:
        settings: Of the repository.
        path: Where they were read from.
        run: What to release; its record is made here.

    Raises:
        PushError: Another release is running.
    """
    held = lock.take(settings.lock, lock.Holder(run.version, run.by, run.started))
    try:
        runs.write(settings.runs, run)
        command = [sys.executable, "-m", "deploy.push", f"--settings={path}", "run", run.name]
        with runs.log_of(settings.runs, run).open("wb") as log:
            subprocess.Popen(
                command,
                cwd=settings.kit,
                env=_environment(settings, run),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[held],
                start_new_session=True,
            )
    finally:
        # The process that was started has it as well, and keeps it until its end.
        os.close(held)


def carry_out(settings: Settings, run: Run) -> int:
    """Run the playbook, whose output goes to the log, and write down how it ended.

    Returns:
        Its exit status.
    """
    wanted = {
        "release": run.version,
        "release_repository": str(settings.repository),
        "release_allowed_signers": str(settings.allowed_signers),
        "release_allow_downgrade": run.downgrade,
    }
    status = subprocess.run(
        [
            *(settings.kit / ".venv/bin/ansible-playbook", f"--inventory={settings.inventory}"),
            *settings.arguments,
            *(f"--extra-vars={json.dumps(wanted)}", "deploy/release.yml"),
        ],
        check=False,
        cwd=settings.kit,
        stdin=subprocess.DEVNULL,
    ).returncode
    runs.write(settings.runs, dataclasses.replace(run, ended=runs.now(), status=status))
    runs.prune(settings.runs)
    return status


def follow(settings: Settings, run: Run, say: Callable[[str], None]) -> int:
    """Tell a log from its beginning until its release is over.

    Returns:
        The exit status of the release; `UNKNOWN` when it ended without one.
    """
    with runs.log_of(settings.runs, run).open(encoding="utf-8", errors="replace") as log:
        while True:
            # Asked in this order, so that nothing that was written before the end is missed.
            is_held = lock.holder_of(settings.lock) is not None
            record = runs.read(runs.record_of(settings.runs, run))
            for line in log:
                say(line.rstrip("\n"))
            if record is not None and record.status is not None:
                return record.status
            if not is_held:
                say(f"The release of {run.version} was interrupted: run it again.")
                return UNKNOWN
            time.sleep(_LOOK_SECONDS)


def _environment(settings: Settings, run: Run) -> dict[str, str]:
    # What git and sshd say of the push is not for the playbook: GIT_DIR would mislead git there.
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("GIT_", "SSH_", "ANSIBLE_"))
    }
    ansible = settings.state / "ansible"
    return {
        **kept,
        "HOME": str(settings.state),
        "PATH": f"{settings.kit}/.venv/bin:{_PROGRAMS}",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ANSIBLE_HOME": str(ansible),
        "ANSIBLE_LOCAL_TEMP": str(ansible / "tmp"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(ansible / "cp"),
        "ANSIBLE_NOCOLOR": "1",
        "SLIPWAY_CACHE": str(settings.state / "cache"),
        "SLIPWAY_BY": f"{run.by} by push",
    }
