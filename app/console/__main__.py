"""The command line of the console."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy.exc import DBAPIError

from app import log
from app.console import jobs
from app.console.commands import Console
from app.console.terminal import ConsoleError
from app.errors import ServiceError, SettingsError
from app.journal import JOURNAL_SOCKET
from app.permissions import Role
from app.settings import Settings, load_settings

Command = Callable[[Console, argparse.Namespace], Awaitable[None]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="console", description="Accounts and jobs, for on-call.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Command, help_: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_, description=help_)
        command.set_defaults(run=run)
        return command

    made = add("create-admin", Console.create_admin, "Make an administrator.")
    made.add_argument("username")
    made.add_argument("email")
    made.add_argument("--full-name", default="")
    made.add_argument("--role", choices=["admin", "super_admin"], default="super_admin")
    made.add_argument(
        "--password-file",
        metavar="FILE",
        help="whose first line is the password; - for standard input; it is asked for by default",
    )
    listed = add("list", Console.list_accounts, "List the accounts.")
    listed.add_argument("--search", metavar="TEXT", help="in name, address or full name")
    listed.add_argument("--role", choices=[role.value for role in Role])
    listed.add_argument("--json", action="store_true", help="one JSON object a line")
    for name, run, help_ in (
        ("unlock", Console.unlock, "Forget the wrong passwords given for an account."),
        ("deactivate", Console.deactivate, "Deactivate an account and end its sessions."),
        ("activate", Console.activate, "Let a deactivated account log in again."),
    ):
        add(name, run, help_).add_argument("account", help="its name or its address")
    _add_changes(add)
    _add_jobs(add)
    return parser


def _add_changes(add: Callable[[str, Command, str], argparse.ArgumentParser]) -> None:
    changed = add("set-role", Console.set_role, "Give an account another role.")
    changed.add_argument("account", help="its name or its address")
    changed.add_argument("role", choices=[role.value for role in Role])
    moved = add("set-email", Console.set_email, "Give an account an address; end what opens it.")
    moved.add_argument("account", help="its name or its address")
    moved.add_argument("address", help="of its owner, who asks for a new password there")
    ended = add("end-sessions", Console.end_sessions, "End the sessions of an account, or of all.")
    ended.add_argument("account", nargs="?", help="its name or its address")
    ended.add_argument("--all", action="store_true", help="those of every account")


def _add_jobs(add: Callable[[str, Command, str], argparse.ArgumentParser]) -> None:
    listed = add("jobs", jobs.list_dead, "List the jobs that failed for good.")
    listed.add_argument("--name", metavar="JOB", help="those of this name, such as reports.items")
    listed.add_argument("--json", action="store_true", help="one JSON object a line")
    shown = add("job", jobs.show_dead, "Show one of them.")
    shown.add_argument("id", type=int)
    for name, run, help_ in (
        ("retry-job", jobs.retry, "Have one of them done after all, or all of a name."),
        ("discard-job", jobs.discard, "Give one of them up, or all of a name."),
    ):
        chosen = add(name, run, help_)
        chosen.add_argument("id", nargs="?", type=int)
        chosen.add_argument("--all", metavar="JOB", dest="name", help="all of this name")


def _check_text(options: argparse.Namespace) -> None:
    """Refuse what is no text, which Python passes on as half characters.

    Raises:
        ConsoleError: when an argument is not UTF-8.
    """
    for value in vars(options).values():
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise ConsoleError("An argument is not UTF-8: check the terminal's locale.") from None


async def _run(settings: Settings, options: argparse.Namespace) -> None:
    console = Console(settings)
    try:
        await options.run(console, options)
    finally:
        await console.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; 0 when it was, 1 with one sentence when not."""
    options = _parser().parse_args(arguments)
    try:
        _check_text(options)
        settings = load_settings(Settings)
        # On a host the terminal is the operator's; the audit trail belongs into the journal.
        on_host = "SLIPWAY_OPERATOR" in os.environ and JOURNAL_SOCKET.exists()
        log.configure(settings.model_copy(update={"log_output": "journal"} if on_host else {}))
        asyncio.run(_run(settings, options))
        sys.stdout.flush()
    except (ConsoleError, ServiceError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except DBAPIError as error:
        # Its text would repeat what was asked for.
        kind = type(error.orig.__cause__ or error.orig).__name__ if error.orig else "error"
        sys.stderr.write(f"The database did not carry it out ({kind}): is it migrated?\n")
        return 1
    except BrokenPipeError:
        # Whoever read has seen enough; what is left in the buffer must not fail at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
