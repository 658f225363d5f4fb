"""Refusing guesses, without letting strangers lock the owner out.

Failures count for a secret, whoever makes them, so that many addresses together get no more guesses
than one. But a client at which the owner was seen, by a login or by a password reset, has a counter
of its own: strangers who keep an account locked do not lock its owner out there.

Secrets are named by a hash of what was asked for, whether such an account exists or not, so that
known and unknown names are treated alike.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Database
from app.lockout import repository
from app.pruning import BATCH, until_none_is_left
from app.settings import Settings

STRANGERS = ""
_FIRST_DELAY = 1.0
_LONGEST_DELAY = 60.0
# Mistakes of yesterday are not those of a guesser.
_FORGOTTEN_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Rules:
    """When to refuse.

    Attributes:
        failures: in a row, after which nothing is accepted for a while.
        locked_for: that while.
        known_for: how long a client stays known.
    """

    failures: int
    locked_for: timedelta
    known_for: timedelta

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        """Return the rules that the settings make."""
        return cls(
            settings.lockout_failures,
            timedelta(seconds=settings.lockout_seconds),
            timedelta(days=settings.known_client_days),
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """What became of one guess.

    Attributes:
        passed: it was right, and neither too early nor locked.
        locks: it was the failure that locked the account.
        locked: nothing is accepted here at the moment.
        early: it was right, but came too soon after a failure.
        failures: in a row, this one included.
    """

    passed: bool
    locks: bool = False
    locked: bool = False
    early: bool = False
    failures: int = 0


def subject_of(kind: str, name: str) -> bytes:
    """Name a secret, such as the password of an account, without keeping what was typed."""
    return hashlib.sha256(f"{kind}:{name.lower()}".encode("utf-8", "surrogatepass")).digest()


async def enter(
    session: AsyncSession, rules: Rules, subject: bytes, client: str, *, right: bool
) -> Gate:
    """Count one guess, which has been verified already, and say whether it may pass.

    Guesses are verified a few at a time and counted one by one, so that a crowd of them at the same
    time gets no further than a queue.
    """
    now = datetime.now(UTC)
    rows = await repository.lock(session, subject, {STRANGERS, client})
    known = rows[client].known_until
    counted = client if known is not None and known > now else STRANGERS
    row = rows[counted]
    failures, last, until = row.failures, row.last_failed_at, row.locked_until
    if until is not None and until > now:
        # Changes nothing, here and below: every answer comes after the same work.
        await repository.change(session, subject, counted, {"failures": failures})
        return Gate(passed=False, locked=True, failures=failures)
    if until is not None or (last is not None and now - last > _FORGOTTEN_AFTER):
        failures, last = 0, None
    if right:
        early = last is not None and now - last < _delay(failures)
        await repository.change(session, subject, counted, {"failures": failures})
        return Gate(passed=not early, early=early, failures=failures)
    failures += 1
    locks = failures >= rules.failures
    values = {
        "failures": failures,
        "last_failed_at": now,
        "locked_until": now + rules.locked_for if locks else None,
    }
    await repository.change(session, subject, counted, values)
    return Gate(passed=False, locks=locks, locked=locks, failures=failures)


async def succeed(session: AsyncSession, rules: Rules, subject: bytes, client: str) -> None:
    """Forget the failures that a right guess has ended, and know the client from now on."""
    now = datetime.now(UTC)
    known = (await repository.lock(session, subject, {STRANGERS, client}))[client].known_until
    if known is None or known <= now:
        await _forget(session, subject, STRANGERS)
    await _forget(session, subject, client, known_until=now + rules.known_for)


async def forgive(session: AsyncSession, rules: Rules, subject: bytes, client: str) -> bool:
    """Unlock for an owner who has proved to be one by mail, and know the client from now on."""
    unlocked = await unlock(session, subject)
    await succeed(session, rules, subject, client)
    return unlocked


async def unlock(session: AsyncSession, subject: bytes) -> bool:
    """Forget all failures; say whether something was locked."""
    return await repository.reset(session, subject, datetime.now(UTC))


async def clean_up(database: Database, batch: int = BATCH) -> None:
    """Forget what says nothing any more."""
    now = datetime.now(UTC)
    forget = partial(repository.delete_stale, now=now, before=now - _FORGOTTEN_AFTER)
    await until_none_is_left(database, forget, batch)


def _delay(failures: int) -> timedelta:
    """Return how long after the last failure nothing is accepted: 0, 1, 2, 4 … seconds."""
    if failures < 2:  # noqa: PLR2004 - everybody mistypes once
        return timedelta()
    return timedelta(seconds=min(_FIRST_DELAY * 2 ** (failures - 2), _LONGEST_DELAY))


async def _forget(
    session: AsyncSession, subject: bytes, client: str, known_until: datetime | None = None
) -> None:
    values: dict[str, object] = {"failures": 0, "last_failed_at": None, "locked_until": None}
    if known_until is not None:
        values["known_until"] = known_until
    await repository.change(session, subject, client, values)
