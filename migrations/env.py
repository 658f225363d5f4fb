"""How Alembic runs the revisions, by `python -m migrations` and by `alembic upgrade head`.

Safe to run while the service serves and while another upgrade runs: an advisory lock lets one
upgrade work at a time, a short lock timeout keeps a migration that waits for a table from making
every query behind it wait too, and the revision is then tried again.
"""

import asyncio
import contextlib
import functools
import sys
import time
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.errors import SettingsError
from app.settings import DatabaseSettings, load_settings
from migrations import jobs_schema, locks
from migrations.indexes import invalid_indexes
from migrations.locks import Blockers
from migrations.models import metadata
from migrations.phases import MigrationError


class Progress:
    """Tells each revision when it is done, and refuses one that left half an index behind."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(
        self, ctx: MigrationContext, step: MigrationInfo, *_: object, **__: object
    ) -> None:
        """Look at a revision that has just run, in its transaction."""
        connection = ctx.connection
        if ctx.as_sql or connection is None:
            return
        if connection.dialect.name == "postgresql" and (broken := invalid_indexes(connection)):
            message = (
                f"The index {', '.join(broken)} is invalid: a CREATE INDEX CONCURRENTLY of it has "
                "failed, and nothing uses it. Make it in its revision by "
                "migrations.indexes.create_index_concurrently, which drops the broken one first."
            )
            raise MigrationError(message)
        now = time.monotonic()
        verb = "upgraded to" if step.is_upgrade else "downgraded from"
        sys.stdout.write(f"{verb} {step.up_revision_id} in {now - self._began:.1f} s\n")
        sys.stdout.flush()
        self._began = now


def is_ours(name: str | None, kind: str, _: object) -> bool:
    """Tell whether a table is one of the models'; the queue's are its package's."""
    return kind != "table" or name is None or not name.startswith(jobs_schema.PREFIX)


def configure(connection: Connection | None = None, **options: Any) -> None:  # noqa: ANN401
    """Tell Alembic what the schema should be and that each revision is one transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        compare_type=True,
        compare_server_default=True,
        include_name=is_ours,
        render_as_batch=connection is not None and connection.dialect.name == "sqlite",
        on_version_apply=Progress(),
        **options,
    )


def run_once(connection: Connection) -> None:
    """Run the revisions that are missing."""
    configure(connection)
    with context.begin_transaction():
        context.run_migrations()


def run_on_postgresql(connection: Connection, blockers: Blockers) -> None:
    """Run the revisions with bounded waits, alone."""
    locks.prepare(connection)
    run = functools.partial(run_once, connection)
    locks.alone(connection, lambda: locks.with_retries(connection, run, blockers))


async def run_watched(engine: AsyncEngine, connection: AsyncConnection) -> None:
    """Run the revisions, and see meanwhile who is in their way."""
    pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    await connection.commit()
    blockers = Blockers(engine, pid)
    watching = asyncio.create_task(blockers.watch())
    try:
        await connection.run_sync(run_on_postgresql, blockers)
    finally:
        watching.cancel()
        # Who cannot look, for want of a connection for example, changes nothing of how it ends.
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await watching


async def run_online(settings: DatabaseSettings) -> None:
    """Connect and run the revisions."""
    engine = create_async_engine(settings.sqlalchemy_url, poolclass=NullPool, hide_parameters=True)
    try:
        async with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                await run_watched(engine, connection)
            else:
                await connection.run_sync(run_once)
            await connection.commit()
    finally:
        await engine.dispose()


def print_sql(**options: Any) -> None:  # noqa: ANN401
    """Print what the revisions run, instead of running it."""
    configure(literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    """Run the revisions, or print their SQL when Alembic is called with `--sql`."""
    if dialect := context.config.attributes.get("dialect"):
        print_sql(dialect_name=dialect)
        return
    try:
        settings = load_settings(DatabaseSettings)
    except SettingsError as error:
        sys.exit(str(error))
    if context.is_offline_mode():
        print_sql(url=settings.sqlalchemy_url.render_as_string(hide_password=True))
    else:
        asyncio.run(run_online(settings))


main()
