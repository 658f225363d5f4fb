"""Runs and plans the revisions: `python -m migrations expand|contract|plan`.

Exit status: 0 done, 1 refused or failed, with a sentence on standard error.
"""

import argparse
import dataclasses
import json
import sys
from typing import Any

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from app.errors import SettingsError
from migrations import runner
from migrations.phases import MigrationError, Revision


def main() -> int:
    """Do what the command line asks for."""
    options = _parser().parse_args()
    try:
        if options.command == "plan":
            _tell(runner.plan(options.origin), as_json=options.json)
        else:
            _say_done(runner.run(options.command))
    except (MigrationError, SettingsError, CommandError, TimeoutError) as error:
        return _fail(str(error))
    except DBAPIError as error:
        return _fail(f"{type(error.orig).__name__}: {error.orig}")
    except OSError as error:
        return _fail(f"The database cannot be reached: {error}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m migrations", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("expand", help="run what a release needs before its switch")
    commands.add_parser("contract", help="run what takes away old shapes, as far as it lies next")
    planning = commands.add_parser("plan", help="tell what is missing, and change nothing")
    planning.add_argument("--json", action="store_true", help="for programs")
    planning.add_argument(
        "--from",
        dest="origin",
        metavar="REVISION",
        help="where the database is, `base` when it is empty; without it the database is asked",
    )
    return parser


def _say_done(revisions: list[Revision]) -> None:
    done = ", ".join(revision.id for revision in revisions)
    sys.stdout.write(f"Done: {done}.\n" if done else "Nothing is missing.\n")


def _tell(plan: runner.Plan, *, as_json: bool) -> None:
    if as_json:
        values: dict[str, Any] = dataclasses.asdict(plan)
        sys.stdout.write(f"{json.dumps(values, indent=1)}\n")
        return
    for item in plan.pending:
        mark = "runs" if item.revision in plan.runs else "waits"
        sys.stdout.write(f"-- {item.revision} ({item.phase}, {mark}): {item.summary}\n{item.sql}\n")
    if not plan.pending:
        sys.stdout.write(f"Nothing is missing: the database is at {plan.current}.\n")


def _fail(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
