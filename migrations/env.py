"""How Alembic runs the revisions: `alembic upgrade head`.

Safe to run while the service serves and while another upgrade runs: an advisory lock lets one
upgrade work at a time, a short lock timeout keeps a migration that waits for a table from making
every query behind it wait too, and the revision is then tried again.
"""

import asyncio
import random
import sys
import time

from alembic import context
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

import app.items.models
import app.users.models  # noqa: F401
from app.db import Base
from app.errors import SettingsError
from app.settings import DatabaseSettings, load_settings

# Any constant does, as long as all releases use the same.
ADVISORY_LOCK = 7_303_014_129_117_531
ADVISORY_LOCK_TIMEOUT = 60.0
LOCK_TIMEOUT = "1s"
STATEMENT_TIMEOUT = "10min"
ATTEMPTS = 10
LOCK_NOT_AVAILABLE = "55P03"


def configure(connection: Connection | None = None, url: str | None = None) -> None:
    """Tell Alembic what the schema should be and that each revision is one transaction."""
    context.configure(
        connection=connection,
        url=url,
        target_metadata=Base.metadata,
        transaction_per_migration=True,
        compare_type=True,
        compare_server_default=True,
        render_as_batch=connection is not None and connection.dialect.name == "sqlite",
        literal_binds=url is not None,
    )


def run_once(connection: Connection) -> None:
    """Run the revisions that are missing."""
    configure(connection)
    with context.begin_transaction():
        context.run_migrations()


def take_advisory_lock(connection: Connection) -> None:
    """Wait until no other upgrade runs.

    It is asked for again and again, not waited for: a waiting statement holds a snapshot, which
    `CREATE INDEX CONCURRENTLY` of the upgrade in front would wait for, without an end.
    """
    deadline = time.monotonic() + ADVISORY_LOCK_TIMEOUT
    query = text("SELECT pg_try_advisory_lock(:key)")
    while not connection.execute(query, {"key": ADVISORY_LOCK}).scalar_one():
        connection.commit()
        if time.monotonic() > deadline:
            message = f"Another migration has been running for {ADVISORY_LOCK_TIMEOUT:.0f} s."
            raise TimeoutError(message)
        time.sleep(0.1)
    connection.commit()


def run_with_retries(connection: Connection) -> None:
    """Run the revisions; when a table is busy, let the others through and try again."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            run_once(connection)
        except DBAPIError as error:
            connection.rollback()
            busy = getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE
            if not busy or attempt == ATTEMPTS:
                raise
            # The randomness keeps it out of step with whatever holds the lock.
            time.sleep(min(attempt, 5) * (0.5 + random.random()))  # noqa: S311
        else:
            return


def run_on_postgresql(connection: Connection) -> None:
    """Run the revisions with bounded waits, alone."""
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
    connection.commit()
    take_advisory_lock(connection)
    try:
        run_with_retries(connection)
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()


async def run_online(settings: DatabaseSettings) -> None:
    """Connect and run the revisions."""
    engine = create_async_engine(settings.sqlalchemy_url, poolclass=NullPool)
    postgresql = engine.dialect.name == "postgresql"
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run_on_postgresql if postgresql else run_once)
            await connection.commit()
    finally:
        await engine.dispose()


def main() -> None:
    """Run the revisions, or print their SQL when Alembic is called with `--sql`."""
    try:
        settings = load_settings(DatabaseSettings)
    except SettingsError as error:
        sys.exit(str(error))
    if context.is_offline_mode():
        configure(url=settings.sqlalchemy_url.render_as_string(hide_password=True))
        with context.begin_transaction():
            context.run_migrations()
    else:
        asyncio.run(run_online(settings))


main()
