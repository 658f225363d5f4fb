"""Whether the service can serve."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from app import metrics
from app.cache import Cache
from app.db import Database
from app.errors import UnavailableError
from app.health import repository
from app.jobs.service import Jobs
from app.schema import KnownRevisions, known_revisions

CHECK_TIMEOUT = 3.0


@dataclass(frozen=True)
class Readiness:
    """What a look at everything that the service needs has shown.

    Attributes:
        status: `ready`; `degraded` when only the cache is missing; `unavailable` otherwise.
        checks: for `database`, `cache` and `migrations`, `ok` or what is wrong.
    """

    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str]


class ReadinessCheck:
    """Looks at the database, its schema and the cache."""

    def __init__(self, database: Database, cache: Cache) -> None:
        self._database = database
        self._cache = cache
        self._known: KnownRevisions | None = None

    async def run(self) -> Readiness:
        """Look at everything at the same time, for a few seconds at most."""
        (database, migrations), cache = await asyncio.gather(
            self._check_database(), self._check_cache()
        )
        if database != "ok" or migrations != "ok":
            status: Literal["ready", "degraded", "unavailable"] = "unavailable"
        else:
            status = "ready" if cache in {"ok", "not configured"} else "degraded"
        return Readiness(status, {"database": database, "cache": cache, "migrations": migrations})

    async def _check_database(self) -> tuple[str, str]:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT), self._database.reading() as connection:
                revision = await repository.current_revision(connection)
        except (UnavailableError, TimeoutError):
            return "unreachable", "unknown"
        return "ok", await self._judge(revision)

    async def _judge(self, revision: str | None) -> str:
        """Compare the database with this code.

        A revision that this code does not know is newer: another release has migrated. It was an
        expanding one, so this code still works, and must, because it serves until the other does.
        A contracting one that has not been run yet takes nothing from this code either.
        """
        if self._known is None:
            self._known = await asyncio.to_thread(known_revisions)
        if revision is None:
            return "missing"
        if revision in self._known.behind:
            return f"behind: {revision}, this release needs {self._known.required}"
        return "ok"

    async def _check_cache(self) -> str:
        if not self._cache.configured:
            return "not configured"
        return "ok" if await self._cache.ping() else "unreachable"


async def count_jobs(database: Database, jobs: Jobs) -> None:
    """Bring the number of jobs up to date; it stays as it was while the database is away."""
    with suppress(UnavailableError, TimeoutError):
        async with asyncio.timeout(CHECK_TIMEOUT):
            for (queue, state), number in (await jobs.count(database)).items():
                metrics.JOBS.labels(queue, state).set(number)
