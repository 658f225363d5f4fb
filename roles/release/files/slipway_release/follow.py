"""The command's side: start the unit that runs the operation, and tell how it goes.

The unit goes on when the command is killed, loses its terminal or its connection.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from slipway_release import units
from slipway_release.errors import FailedError, LockedError
from slipway_release.lock import holder_of
from slipway_release.operation import Result, result_path
from slipway_release.progress import log_path
from slipway_release.settings import Settings
from slipway_release.work import Order

_POLL_SECONDS = 0.05
# The unit of the last operation may still be on its way out.
_PATIENCE_SECONDS = 5.0
_ENDED = {"inactive", "failed"}


def run(settings: Settings, order: Order) -> Result:
    """Run an operation in a unit of its own and print its story line by line.

    Raises:
        LockedError: Another operation is under way.
        FailedError: The unit did not start, or was killed.
    """
    unit = f"slipway-{settings.app}-release.service"
    _start(settings, unit, _internal(settings, order))
    try:
        return _follow(settings, order, unit)
    except KeyboardInterrupt:
        message = f"No longer following; the {order.verb} goes on: journalctl -fu {unit}"
        raise FailedError(message) from None


def _internal(settings: Settings, order: Order) -> list[str]:
    arguments = [f"--app={settings.app}", "_run", order.verb]
    arguments += [order.version] if order.version else []
    arguments += [f"--sha256={order.sha256}"] if order.sha256 else []
    arguments += ["--allow-downgrade"] if order.allow_downgrade else []
    return [
        *arguments,
        f"--by={order.who}",
        f"--started={order.started!r}",
        f"--operation={order.operation}",
    ]


def _start(settings: Settings, unit: str, arguments: Sequence[str]) -> None:
    program = [sys.executable, "-I", str(Path(sys.argv[0]).absolute())]
    command = [
        *("systemd-run", "--quiet", "--collect", f"--unit={unit}", "--service-type=exec"),
        f"--description=Release of {settings.app}",
        # The operation alone is asked to stop, and puts back with its children still there.
        *("--property=KillMode=mixed", "--property=TimeoutStopSec=5min"),
        "--property=OOMPolicy=continue",
        # Whatever ended the operation, what it left behind is cleared away at once.
        f"--property=ExecStopPost=-{' '.join(program)} --app={settings.app} _recover",
        *("--", *program, *arguments),
    ]
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        if holder := holder_of(settings.lock):
            raise LockedError(str(holder))
        answer = subprocess.run(command, check=False, capture_output=True, text=True)
        if not answer.returncode:
            return
        if units.status(unit).active in _ENDED or time.monotonic() > deadline:
            reason = answer.stderr.strip() or f"exit status {answer.returncode}"
            raise FailedError(f"systemd did not start the operation: {reason}")
        time.sleep(_POLL_SECONDS)


def _follow(settings: Settings, order: Order, unit: str) -> Result:
    path = result_path(settings, order.operation)
    with contextlib.ExitStack() as stack:
        log: TextIO | None = None
        told = ""
        rounds = 0
        while True:
            rounds += 1
            ended = path.exists() or (rounds % 20 == 0 and units.status(unit).active in _ENDED)
            if log is None:
                with contextlib.suppress(FileNotFoundError):
                    story = log_path(settings, order.operation)
                    log = stack.enter_context(story.open(encoding="utf-8", errors="replace"))
            if log is not None and (text := log.read()):
                told += text
                sys.stdout.write(text)
                sys.stdout.flush()
            if ended:
                break
            time.sleep(_POLL_SECONDS)
    result = _result(path, unit)
    if result.message and result.message not in told:
        sys.stdout.writelines(f"    | {line}\n" for line in result.lines)
        sys.stdout.write(f"{result.message}\n")
    return result


def _result(path: Path, unit: str) -> Result:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while units.status(unit).active not in _ENDED and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FailedError(
            f"The operation was killed; what it had begun is put back: see `journalctl -u {unit}`."
        ) from error
    path.unlink()
    return Result(values["exit_status"], values["message"], tuple(values["lines"]))
