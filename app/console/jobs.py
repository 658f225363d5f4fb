"""The commands of the console for jobs that failed for good."""

import argparse
import dataclasses
import json
from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import Event, record
from app.console.commands import Console
from app.console.terminal import ConsoleError, say
from app.jobs import dead_letters
from app.jobs.dead_letters import Chosen, DeadLetter

NO_JOB = "No job that failed for good has this number or name: `jobs` lists those that there are."
# A number beyond them is no job's.
_NUMBERS = range(1, 2**63)


async def list_dead(console: Console, options: argparse.Namespace) -> None:
    """Print the jobs that failed for good, one a line."""
    async for letter in dead_letters.find(console.database, Chosen(name=options.name)):
        say(_json_of(letter) if options.json else _line_of(letter))


async def show_dead(console: Console, options: argparse.Namespace) -> None:
    """Print all that is told of one of them."""
    chosen = Chosen(job_id=_checked(options.id))
    found = [letter async for letter in dead_letters.find(console.database, chosen)]
    if not found:
        raise ConsoleError(NO_JOB)
    for name, value in json.loads(_json_of(found[0])).items():
        say(f"{name:<11} {'-' if value is None else value}")


async def retry(console: Console, options: argparse.Namespace) -> None:
    """Have one of them, or all of a name, done after all."""
    count = await _change(console, options, dead_letters.retry, "job.retried")
    say(f"{count} {'job is' if count == 1 else 'jobs are'} done again.")


async def discard(console: Console, options: argparse.Namespace) -> None:
    """Give one of them, or all of a name, up."""
    count = await _change(console, options, dead_letters.discard, "job.discarded")
    say(f"{count} {'job is' if count == 1 else 'jobs are'} given up.")


async def _change(
    console: Console,
    options: argparse.Namespace,
    change: Callable[[AsyncSession, Chosen], Awaitable[int]],
    event: str,
) -> int:
    """Change those that are chosen, note it in the audit trail, and return how many they were."""
    chosen = _chosen(options)
    async with console.database.writing() as session:
        count = await change(session, chosen)
        if not count:
            raise ConsoleError(NO_JOB)
        details = {**_told(chosen, count), **console.by.event["details"]}
        await record(session, Event(event, console.by.origin, details=details))
    return count


def _chosen(options: argparse.Namespace) -> Chosen:
    if (options.id is None) == (options.name is None):
        raise ConsoleError("Say one job by its number, or all of a name: NUMBER | --all JOB")
    return Chosen(None if options.id is None else _checked(options.id), options.name)


def _checked(job_id: int) -> int:
    if job_id not in _NUMBERS:
        raise ConsoleError(NO_JOB)
    return job_id


def _told(chosen: Chosen, count: int) -> dict[str, str | int]:
    if chosen.job_id is not None:
        return {"job_id": chosen.job_id}
    return {"job": chosen.name or "", "jobs": count}


def _line_of(letter: DeadLetter) -> str:
    failed = letter.failed_at.strftime("%Y-%m-%d %H:%M") if letter.failed_at else "-"
    return (
        f"{letter.id:>8}  {failed:<16}  {letter.name:<28}  {letter.error} "
        f"({letter.attempts} attempts)"
    )


def _json_of(letter: DeadLetter) -> str:
    return json.dumps(dataclasses.asdict(letter), default=lambda moment: moment.isoformat())
