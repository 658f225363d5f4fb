"""Runs the revisions of a phase, and tells which are missing and what their SQL is."""

import asyncio
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from app.settings import DatabaseSettings, load_settings
from migrations import phases
from migrations.phases import MIGRATIONS, MigrationError, Revision

_CHOICES: dict[str, Callable[[Sequence[Revision], str | None], list[Revision]]] = {
    "expand": phases.expanding,
    "contract": phases.contracting,
}


@dataclass(frozen=True)
class Pending:
    """A revision that a database lacks, with the SQL that it would run on PostgreSQL."""

    revision: str
    phase: str
    summary: str
    sql: str


@dataclass(frozen=True)
class Plan:
    """What is missing in a database.

    Attributes:
        current: The revision that it is at; None when it is empty.
        head: The newest one.
        pending: What it lacks, oldest first.
        runs: Those of them that a release runs.
        waits: Those that wait for `contract`, or for one that does.
    """

    current: str | None
    head: str | None
    pending: list[Pending]
    runs: list[str]
    waits: list[str]


def configuration(buffer: io.StringIO | None = None) -> Config:
    """Return Alembic's settings for this folder, wherever the command is run."""
    config = Config(output_buffer=buffer) if buffer else Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def run(phase: str, config: Config | None = None) -> list[Revision]:
    """Run the missing revisions of a phase, each in a transaction of its own; return them.

    Which ones these are is decided when no other upgrade runs any more.

    Raises:
        MigrationError: The order of the revisions forbids it; nothing was changed.
    """
    config = config or configuration()
    scripts = ScriptDirectory.from_config(config)
    revisions = phases.history(scripts)
    chosen: list[Revision] = []

    def steps(heads: tuple[str, ...] | str, _: MigrationContext) -> Any:  # noqa: ANN401
        current = _current(heads)
        found = _CHOICES[phase](revisions, current)
        # A retry after a lock finds fewer of them missing.
        chosen.extend(revision for revision in found if revision not in chosen)
        # What `alembic upgrade` itself hands to its environment.
        return scripts._upgrade_revs(found[-1].id, current or "base") if found else []  # noqa: SLF001

    with EnvironmentContext(config, scripts, fn=steps):
        scripts.run_env()
    return chosen


def plan(origin: str | None = None, config: Config | None = None) -> Plan:
    """Tell what a database lacks.

    Args:
        origin: The revision that it is at, `base` for an empty one; None to ask the database.
        config: Alembic's settings; those of this folder by default.

    Raises:
        MigrationError: There is no such revision.
    """
    config = config or configuration()
    revisions = phases.history(ScriptDirectory.from_config(config))
    if origin is None:
        current = asyncio.run(_ask(load_settings(DatabaseSettings)))
    else:
        current = None if origin == "base" else origin
        if current is not None and current not in {revision.id for revision in revisions}:
            message = f"There is no revision {current} here."
            raise MigrationError(message)
    missing = phases.pending(revisions, current)
    try:
        runs = [revision.id for revision in phases.expanding(revisions, current)]
    except MigrationError:
        runs = []
    return Plan(
        current=current,
        head=revisions[-1].id if revisions else None,
        pending=[
            Pending(item.id, item.phase, item.summary, sql_of(config, item)) for item in missing
        ],
        runs=runs,
        waits=[item.id for item in missing if item.id not in runs],
    )


def sql_of(config: Config, revision: Revision) -> str:
    """Return what a revision runs on PostgreSQL, without a database and without settings."""
    buffer = io.StringIO()
    location = config.get_main_option("script_location") or str(MIGRATIONS)
    offline = configuration(buffer)
    offline.set_main_option("script_location", location.replace("%", "%%"))
    offline.attributes["dialect"] = "postgresql"
    scripts = ScriptDirectory.from_config(offline)

    def steps(_: object, __: MigrationContext) -> Any:  # noqa: ANN401
        return scripts._upgrade_revs(revision.id, revision.before or "base")  # noqa: SLF001

    with EnvironmentContext(
        offline,
        scripts,
        fn=steps,
        as_sql=True,
        starting_rev=revision.before,
        destination_rev=revision.id,
    ):
        scripts.run_env()
    return buffer.getvalue().strip()


def _current(heads: tuple[str, ...] | str) -> str | None:
    found = (heads,) if isinstance(heads, str) else tuple(heads)
    if len(found) > 1:
        message = f"The database is at several revisions ({', '.join(found)}): put it at one."
        raise MigrationError(message)
    return found[0] if found and found[0] != "base" else None


async def _ask(settings: DatabaseSettings) -> str | None:
    engine = create_async_engine(settings.sqlalchemy_url, poolclass=NullPool, hide_parameters=True)
    try:
        async with engine.connect() as connection:
            heads = await connection.run_sync(_heads)
    finally:
        await engine.dispose()
    return _current(heads)


def _heads(connection: Connection) -> tuple[str, ...]:
    return tuple(MigrationContext.configure(connection).get_current_heads())
