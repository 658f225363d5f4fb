"""An operation from its lock to its end, in the unit that survives the command."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import FrameType

from slipway_release import journal, recovery, schema
from slipway_release import steps as order_of_steps
from slipway_release.errors import FailedError, RefusedError, SlipwayError, StoppedError
from slipway_release.lock import Holder, OperationLock
from slipway_release.progress import Progress
from slipway_release.settings import Settings
from slipway_release.state import Operation, Store
from slipway_release.steps import Step
from slipway_release.version import precedence
from slipway_release.work import Order, Work


@dataclasses.dataclass(frozen=True)
class Result:
    """How an operation ended.

    Attributes:
        exit_status: For the command.
        message: Why it did not do what was asked, '' otherwise.
        lines: Log lines of the release concerned.
    """

    exit_status: int
    message: str = ""
    lines: tuple[str, ...] = ()


def result_path(settings: Settings, operation: str) -> Path:
    """Return where an operation leaves its result for the command.

    It is beside the lock, in memory, where a full disk does not matter.
    """
    return settings.lock.parent / f"{settings.app}-{operation}.result"


def run(settings: Settings, order: Order) -> int:
    """Run an operation and leave its result for the command.

    Returns:
        The exit status.
    """
    progress = Progress(settings, order.operation, order.verb, order.version or "")
    # What is left when an error of this program itself goes through; the journal has its trace.
    result = Result(FailedError.exit_status, "The operation ended by an error of its own.")
    try:
        _run(settings, order, progress)
        result = Result(0)
    except SlipwayError as error:
        result = Result(error.exit_status, str(error), error.lines)
    except (OSError, subprocess.SubprocessError) as error:
        result = Result(FailedError.exit_status, f"The operation failed: {error}.")
    finally:
        _leave(settings, order, progress, result)
    return result.exit_status


def _leave(settings: Settings, order: Order, progress: Progress, result: Result) -> None:
    for line in result.lines:
        progress.tell(f"    | {line}")
    if result.message:
        progress.tell(result.message, journal.ERROR)
    path = result_path(settings, order.operation)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(dataclasses.asdict(result)), encoding="utf-8")
    temporary.replace(path)


def _run(settings: Settings, order: Order, progress: Progress) -> None:
    if order.version is not None:
        precedence(order.version)
    holder = Holder(
        app=settings.app,
        verb=order.verb,
        version=order.version
        or ("(the live release)" if order.verb == "contract" else "(the last good release)"),
        who=order.who,
        since=order.started,
        step="lock",
        operation=order.operation,
    )
    with OperationLock(settings.lock, holder) as lock:
        store = Store(settings)
        if story := recovery.converge(settings, store):
            progress.tell(story)
        operation = Operation(
            order.operation, order.verb, order.version or "", None, order.who, order.started
        )
        work = Work(settings, store, progress, order, operation)
        _heed_signals(work)
        try:
            _take_steps(work, lock)
        except BaseException as error:
            _ignore_signals()
            if work.begun:
                lock.step("put back")
                _put_back(work, error)
            raise
        store.end_operation()
        _tell_success(work)


def _take_steps(work: Work, lock: OperationLock) -> None:
    for step in order_of_steps.STEPS:
        if work.order.verb not in step.verbs:
            continue
        if step.changes and not work.begun:
            work.begin()
        lock.step(step.name)
        begin = time.monotonic()
        try:
            outcome = _take(work, step)
        except BaseException:
            work.progress.step(step.name, time.monotonic() - begin, "failed")
            raise
        work.steps[step.name] = round(time.monotonic() - begin, 3)
        work.progress.step(step.name, work.steps[step.name], outcome)


def _take(work: Work, step: Step) -> str:
    if not step.final:
        return step.run(work)
    try:
        return step.run(work)
    except (SlipwayError, OSError, subprocess.SubprocessError) as error:
        work.progress.tell(f"  {step.name}: {error}", journal.WARNING)
        return "not done; the release stays"


def _put_back(work: Work, error: BaseException) -> None:
    begin = time.monotonic()
    stopped = isinstance(error, StoppedError | RefusedError)
    reason = str(error) or type(error).__name__
    for trouble in recovery.abandon(work, reason, failed=not stopped):
        work.progress.tell(trouble, journal.ERROR)
    live = work.store.current()
    outcome = f"{live} is live" if live else "nothing is live"
    work.progress.step("put back", time.monotonic() - begin, outcome)


def _tell_success(work: Work) -> None:
    started, switched = work.operation.started, work.switched
    if work.operation.verb == "contract":
        done = f"{schema.plural(work.operation.revisions)} of {work.version} contracted"
        work.progress.tell(f"{done}: done after {time.time() - started:.1f} s")
        return
    traffic = f"traffic after {switched - started:.1f} s, " if switched else ""
    work.progress.tell(f"{work.version} is live: {traffic}done after {time.time() - started:.1f} s")


def _heed_signals(work: Work) -> None:
    """Let SIGTERM put the host back, until the release is accepted."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        if not work.operation.accepted:
            _ignore_signals()
            raise StoppedError(f"The operation was stopped (signal to process {os.getpid()}).")

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
