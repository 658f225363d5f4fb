"""One upgrade at a time, and none that makes others wait: locks, retries, and who is in the way."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from migrations.phases import MigrationError

# Any constant does, as long as all releases use the same.
ADVISORY_LOCK = 7_303_014_129_117_531
ADVISORY_LOCK_TIMEOUT = 60.0
LOCK_TIMEOUT = "1s"
STATEMENT_TIMEOUT = "10min"
# A runner that is killed takes its statement with it in this time, instead of leaving it behind.
CONNECTION_CHECK = "2s"
CONNECTION_CHECK_SINCE = 140_000
ATTEMPTS = 10
LOCK_NOT_AVAILABLE = "55P03"
_GLANCE = 0.25

_SESSIONS = """
SELECT pid, usename, application_name, extract(epoch FROM now() - xact_start) AS seconds,
       left(query, 80) AS query
FROM pg_stat_activity WHERE pid = ANY({pids})
"""
# A key of 64 bits is told in two halves: https://www.postgresql.org/docs/current/view-pg-locks.html
_HOLDERS = """ARRAY(SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
AND objsubid = 1 AND (classid::bigint << 32) | objid::bigint = :key)"""


class Blockers:
    """Looks who is in the way of a session, while that session waits."""

    def __init__(self, engine: AsyncEngine, pid: int) -> None:
        self._engine = engine
        self._pid = pid
        self.seen = ""

    async def watch(self) -> None:
        """Look again and again, until it is cancelled."""
        # What is quick needs no second connection.
        await asyncio.sleep(_GLANCE)
        query = text(_SESSIONS.format(pids="pg_blocking_pids(:pid)"))
        async with self._engine.connect() as connection:
            while True:
                rows = (await connection.execute(query, {"pid": self._pid})).all()
                await connection.commit()
                if rows:
                    self.seen = _described(rows)
                await asyncio.sleep(_GLANCE)


def _described(rows: Any) -> str:  # noqa: ANN401
    return "; ".join(_session(row) for row in rows)


def _session(row: Row[Any]) -> str:
    words = f"process {row.pid} of role {row.usename}"
    if row.application_name:
        words += f" ({row.application_name})"
    # Another role's times and statements are shown to those who may read all statistics.
    if row.seconds is not None:
        words += f", in a transaction for {row.seconds:.0f} s: {' '.join(row.query.split())}"
    return words


def prepare(connection: Connection) -> None:
    """Bound what a revision may wait for, and how long it may run on without its runner."""
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
    version = connection.execute(text("SHOW server_version_num")).scalar_one()
    if int(version) >= CONNECTION_CHECK_SINCE:
        connection.execute(text(f"SET client_connection_check_interval = '{CONNECTION_CHECK}'"))
    connection.commit()


def alone(connection: Connection, work: Callable[[], None]) -> None:
    """Do something while no other upgrade works on this database.

    Raises:
        MigrationError: Another one went on for too long.
    """
    _take_advisory_lock(connection)
    try:
        work()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()


def _take_advisory_lock(connection: Connection) -> None:
    """Wait until no other upgrade runs.

    It is asked for again and again, not waited for: a waiting statement holds a snapshot, which
    `CREATE INDEX CONCURRENTLY` of the upgrade in front would wait for, without an end.
    """
    deadline = time.monotonic() + ADVISORY_LOCK_TIMEOUT
    query = text("SELECT pg_try_advisory_lock(:key)")
    while not connection.execute(query, {"key": ADVISORY_LOCK}).scalar_one():
        connection.commit()
        if time.monotonic() > deadline:
            holders = text(_SESSIONS.format(pids=_HOLDERS))
            rows = connection.execute(holders, {"key": ADVISORY_LOCK}).all()
            message = (
                f"Another migration has been running for {ADVISORY_LOCK_TIMEOUT:.0f} s: "
                f"{_described(rows) or 'it has just ended'}. Nothing was changed; try again."
            )
            raise MigrationError(message)
        time.sleep(0.1)
    connection.commit()


def with_retries(connection: Connection, work: Callable[[], None], blockers: Blockers) -> None:
    """Do something; when a table is busy, let the others through and try again.

    Raises:
        MigrationError: A table stayed busy; the message says by whom.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            work()
        except DBAPIError as error:
            connection.rollback()
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            if attempt == ATTEMPTS:
                message = (
                    f"A table stayed locked in {ATTEMPTS} attempts by "
                    f"{blockers.seen or 'a session that could not be seen'}: end that transaction, "
                    "then try again. The revisions before it stay done."
                )
                raise MigrationError(message) from error
            # The randomness keeps it out of step with whatever holds the lock.
            time.sleep(min(attempt, 5) * (0.5 + random.random()))  # noqa: S311
        else:
            return
