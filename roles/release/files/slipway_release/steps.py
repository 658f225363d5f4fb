"""The order of an operation, written down in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from slipway_release import (
    contract,
    finish,
    gate,
    install,
    processes,
    restore,
    switch,
    verify,
    watch,
)
from slipway_release.work import Work

_BOTH = frozenset({"release", "rollback"})
_RELEASE = frozenset({"release"})
_CONTRACT = frozenset({"contract"})
_ALL = _BOTH | _CONTRACT


class Step(NamedTuple):
    """One step of an operation.

    Attributes:
        name: What people read.
        run: Does it, and returns a few words about it.
        verbs: The operations that it belongs to.
        changes: Whether it may change anything; from the first such step on a failure is put back.
        final: Whether the release is proved by then, so that a failure returns nothing.
    """

    name: str
    run: Callable[[Work], str]
    verbs: frozenset[str] = _BOTH
    changes: bool = True
    final: bool = False


STEPS: tuple[Step, ...] = (
    Step("verify", verify.verify, _ALL, changes=False),
    Step("room", install.require_room, _RELEASE | _CONTRACT, changes=False),
    Step("unpack", install.unpack, _RELEASE),
    Step("environment", install.make_environment, _RELEASE),
    # Not before a rollback: the schema may well be ahead of the code that is returned to, and that
    # code has proved itself with these settings before. Its start and its readiness are the proof.
    Step("preflight", gate.preflight, _RELEASE),
    Step("restore point", restore.take, _RELEASE | _CONTRACT),
    Step("migrate", gate.migrate, _RELEASE),
    Step("contract", contract.run, _CONTRACT),
    Step("start", gate.start),
    Step("ready", gate.ready),
    Step("warm up", gate.warm_up),
    Step("switch", switch.switch),
    Step("smoke", gate.smoke),
    Step("processes", processes.hand_over),
    Step("watch", watch.watch),
    Step("drain", finish.drain, final=True),
    Step("record", finish.record, _ALL, final=True),
    Step("prune", finish.prune, final=True),
)
