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
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from slipway_release import follow, operation, recovery, report, request
from slipway_release import settings as all_settings
from slipway_release.errors import RefusedError, SlipwayError
from slipway_release.settings import DIRECTORY, Settings
from slipway_release.work import Order

_EXIT = """exit status:
  0  done
  1  failed; the host was put back
  2  refused, nothing was changed
  3  another operation is under way, nothing was changed
  4  stopped by a signal; the host was put back
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
        settings = all_settings.load(options.app, directory)
        return _run(settings, options)
    except SlipwayError as error:
        for line in error.lines:
            sys.stderr.write(f"    | {line}\n")
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    except OSError as error:
        sys.stderr.write(f"{error}: slipway needs the rights of root.\n")
        return 1


def _run(settings: Settings, options: argparse.Namespace) -> int:
    if options.command in {"release", "rollback"}:
        _require_root(settings)
        return follow.run(settings, _order(options)).exit_status
    if options.command == "_run":
        return operation.run(settings, _order(options))
    if options.command == "_recover":
        recovery.recover(settings)
        return 0
    if options.command == "boot":
        text = recovery.boot(settings)
    elif options.command == "status":
        text = (
            json.dumps(report.status(settings), indent=1)
            if options.json
            else report.status_text(settings)
        )
    elif options.command == "history":
        text = report.history_text(settings, as_json=options.json)
    else:
        text = "\n".join(str(line) for line in request.lines(settings, options.id))
    sys.stdout.write(f"{text}\n")
    return 0


def _require_root(settings: Settings) -> None:
    if not os.access(settings.state, os.W_OK):
        raise RefusedError(f"{settings.state} cannot be written: run slipway as root, with sudo.")


def _order(options: argparse.Namespace) -> Order:
    started = options.started or time.time()
    stamp = datetime.fromtimestamp(started, tz=timezone.utc)
    return Order(
        verb=options.verb if options.command == "_run" else options.command,
        version=options.version,
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
        metavar="{release,rollback,status,history,boot,request,check-settings}",
    )
    release = commands.add_parser("release", help="make a version live, out of its artifact")
    release.add_argument("version", help="such as v1.4.2")
    _add_order(release)
    rollback = commands.add_parser("rollback", help="return to an installed good release")
    rollback.add_argument("version", nargs="?", help="by default the last good one before this")
    _add_order(rollback)
    for name, help_text in (
        ("status", "what is live, installed and under way"),
        ("history", "what was released and rolled back, and what came of it"),
    ):
        asking = commands.add_parser(name, help=help_text)
        asking.add_argument("--json", action="store_true", help="for programs")
    commands.add_parser("boot", help="start what is live; the host does this at its boot")
    asking = commands.add_parser("request", help="all log lines of one request")
    asking.add_argument("id", help="its X-Request-ID")
    checking = commands.add_parser("check-settings", help="check a file of settings")
    checking.add_argument("file", type=Path)
    inside = commands.add_parser("_run")
    inside.add_argument("verb", choices=["release", "rollback"])
    inside.add_argument("version", nargs="?")
    _add_order(inside)
    inside.add_argument("--started", type=float)
    inside.add_argument("--operation")
    commands.add_parser("_recover")
    return parser


def _add_order(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(started=None, operation=None, sha256=None, allow_downgrade=False)
    parser.add_argument("--by", metavar="WHO", help="who asks for it, for the history")
    if not parser.prog.endswith("rollback"):
        inside = parser.prog.endswith("_run")
        parser.add_argument("--sha256", required=not inside, help="checksum of the artifact")
        parser.add_argument(
            "--allow-downgrade", action="store_true", help="release an older version than the live"
        )
