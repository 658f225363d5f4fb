"""The command `slipway`: what an operator, Ansible and the boot of a host say to it."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from slipway_release import (
    announce,
    announcements,
    catch_up,
    contract,
    fleet,
    follow,
    housekeeping,
    maintenance,
    operation,
    program,
    recovery,
    report,
    request,
)
from slipway_release import settings as all_settings
from slipway_release.errors import RefusedError, SlipwayError
from slipway_release.settings import DIRECTORY, Settings
from slipway_release.work import Order

_CHANGES = {"contract", "fleet-mark", "prune"}
_EXIT = """exit status:
  0  done
  1  failed; the host was put back
  2  refused, nothing was changed
  3  another operation is under way, nothing was changed
  4  stopped by a signal; the host was put back
`run` and `console` pass on what the program ends with.
"""


def main(arguments: Sequence[str] | None = None, directory: Path = DIRECTORY) -> int:
    """Run the command.

    Args:
        arguments: Without the program's name; those of the process by default.
        directory: Folder with the settings of the services.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "check-settings":
            all_settings.parse(options.file.read_text(encoding="utf-8"), str(options.file))
            return 0
        if options.command == "check-announcements":
            announcements.load(options.file)
            return 0
        settings = all_settings.load(options.app, directory)
        return _run(settings, options, directory)
    except SlipwayError as error:
        for line in error.lines:
            sys.stderr.write(f"    | {line}\n")
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    except OSError as error:
        sys.stderr.write(f"{error}: slipway needs the rights of root.\n")
        return 1


def _run(settings: Settings, options: argparse.Namespace, directory: Path) -> int:
    if options.command in {"release", "rollback"} or _shall_contract(settings, options):
        _require_root(settings)
        return follow.run(settings, _order(options)).exit_status
    if options.command.startswith("_"):
        return _run_inside(settings, options)
    if options.command in {"run", "console"}:
        return _run_program(settings, options)
    if options.command == "catch-up":
        _require_root(settings)
        status, text = catch_up.run(
            settings, directory, lambda order: follow.run(settings, order).exit_status
        )
        sys.stdout.write(f"{text}\n" if text else "")
        return status
    sys.stdout.write(f"{_answer(settings, options)}\n")
    return 0


def _run_inside(settings: Settings, options: argparse.Namespace) -> int:
    """Do what the tool's own units ask for."""
    if options.command == "_run":
        return operation.run(settings, _order(options))
    if options.command == "_recover":
        recovery.recover(settings)
    else:
        announce.send(settings, options.operation)
    return 0


def _run_program(settings: Settings, options: argparse.Namespace) -> int:
    _require_root(settings)
    if options.command == "run":
        return program.run(settings, [options.program, *options.arguments], _who(None))
    return program.console(settings, options.arguments, _who(None))


def _answer(settings: Settings, options: argparse.Namespace) -> str:
    """Do what is done in an instant, and return what there is to tell."""
    if options.command in _CHANGES:
        _require_root(settings)
    answers: dict[str, Callable[[], str]] = {
        "contract": lambda: str(contract.require(settings)),
        "fleet-mark": lambda: fleet.mark(settings, options.version, options.serial),
        "boot": lambda: recovery.boot(settings),
        "status": lambda: (
            json.dumps(report.status(settings), indent=1)
            if options.json
            else report.status_text(settings)
        ),
        "history": lambda: report.history_text(settings, as_json=options.json, last=options.last),
        "maintenance": lambda: _maintenance(settings, options),
        "prune": lambda: housekeeping.prune(
            settings, settings.keep if options.keep is None else options.keep, _who(options.by)
        ),
        "request": lambda: "\n".join(str(line) for line in request.lines(settings, options.id)),
    }
    return answers[options.command]()


def _shall_contract(settings: Settings, options: argparse.Namespace) -> bool:
    """Tell whether there is something to contract, and not only to tell of it."""
    if options.command != "contract" or options.check:
        return False
    return bool(contract.require(settings).pending)


def _maintenance(settings: Settings, options: argparse.Namespace) -> str:
    if options.state == "on":
        _require_root(settings)
        allowed = [network for group in options.allow for network in group]
        return maintenance.close(settings, options.reason, allowed, _who(options.by))
    if options.state == "off":
        _require_root(settings)
        return maintenance.open_again(settings, _who(options.by))
    return f"{settings.app} is {maintenance.state(settings) or 'open'}"


def _require_root(settings: Settings) -> None:
    if not os.access(settings.state, os.W_OK):
        raise RefusedError(f"{settings.state} cannot be written: run slipway as root, with sudo.")


def _order(options: argparse.Namespace) -> Order:
    started = options.started or time.time()
    stamp = datetime.fromtimestamp(started, tz=timezone.utc)
    return Order(
        verb=options.verb if options.command == "_run" else options.command,
        version=getattr(options, "version", None),
        who=_who(options.by),
        started=started,
        operation=options.operation or f"{stamp:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        sha256=options.sha256,
        allow_downgrade=options.allow_downgrade,
    )


def _who(said: str | None) -> str:
    """Name the person; whatever a unit's command line would give a meaning to is left out."""
    name = said or os.environ.get("SUDO_USER") or getpass.getuser()
    return re.sub(r"[^\w@.+ -]", "", name)[:80].strip() or "someone"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slipway",
        description="Release a service on this host, return to an earlier release, and ask.",
        epilog=_EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--app", help="name of the service; optional when there is only one")
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="COMMAND",
    )
    release = commands.add_parser("release", help="make a version live, out of its artifact")
    release.add_argument("version", help="such as v1.4.2")
    _add_order(release)
    rollback = commands.add_parser("rollback", help="return to an installed good release")
    rollback.add_argument("version", nargs="?", help="by default the last good one before this")
    _add_order(rollback)
    contracting = commands.add_parser(
        "contract", help="take out of the schema what only older releases need"
    )
    contracting.add_argument(
        "--check", action="store_true", help="tell what it would do, and change nothing"
    )
    _add_order(contracting)
    asking = commands.add_parser("status", help="what is live, installed and under way")
    asking.add_argument("--json", action="store_true", help="for programs")
    asking = commands.add_parser("history", help="what was done here, and what came of it")
    asking.add_argument("--json", action="store_true", help="for programs")
    asking.add_argument("--last", type=int, metavar="N", help="the last N operations only")
    _add_upkeep(commands)
    _add_programs(commands)
    commands.add_parser("boot", help="start what is live; the host does this at its boot")
    commands.add_parser("catch-up", help="get what the fleet has released without this host")
    marking = commands.add_parser("fleet-mark", help="note what the whole fleet serves now")
    marking.add_argument("version", help="such as v1.4.2")
    marking.add_argument("--serial", type=int, required=True, help="greater than the one before")
    asking = commands.add_parser("request", help="all log lines of one request")
    asking.add_argument("id", help="its X-Request-ID")
    for name in ("check-settings", "check-announcements"):
        checking = commands.add_parser(name, help="check a file that the role `release` wrote")
        checking.add_argument("file", type=Path)
    inside = commands.add_parser("_run")
    inside.add_argument("verb", choices=["release", "rollback", "contract"])
    inside.add_argument("version", nargs="?")
    _add_order(inside)
    inside.add_argument("--started", type=float)
    inside.add_argument("--operation")
    commands.add_parser("_recover")
    announcing = commands.add_parser("_announce")
    announcing.add_argument("operation")
    return parser


def _add_upkeep(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    closing = commands.add_parser("maintenance", help="close the site to the public, or open it")
    closing.add_argument("state", choices=["on", "off", "status"])
    closing.add_argument("--reason", default="", metavar="TEXT", help="what the public is told")
    closing.add_argument(
        "--allow",
        action="append",
        nargs="+",
        default=[],
        metavar="NETWORK",
        help="addresses that reach the service all the same",
    )
    closing.add_argument("--by", metavar="WHO", help="who asks for it")
    pruning = commands.add_parser("prune", help="remove releases to make room on the disk")
    pruning.add_argument("--keep", type=int, metavar="N", help="how many stay; as configured")
    pruning.add_argument("--by", metavar="WHO", help="who asks for it")


def _add_programs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    running = commands.add_parser(
        "run", help="run a program of the live release as the service does"
    )
    running.add_argument("program", help="name in the virtual environment, such as python")
    running.add_argument("arguments", nargs=argparse.REMAINDER)
    # Every word belongs to the console, also one that looks like an option.
    asking = commands.add_parser(
        "console",
        help="run the console of the service, with its own arguments",
        add_help=False,
        prefix_chars="\0",
    )
    asking.add_argument("arguments", nargs=argparse.REMAINDER)


def _add_order(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(started=None, operation=None, sha256=None, allow_downgrade=False)
    parser.add_argument("--by", metavar="WHO", help="who asks for it, for the history")
    if not parser.prog.endswith(("rollback", "contract")):
        inside = parser.prog.endswith("_run")
        parser.add_argument("--sha256", required=not inside, help="checksum of the artifact")
        parser.add_argument(
            "--allow-downgrade", action="store_true", help="release an older version than the live"
        )
