"""The ways to the database: one for reading, one for transactions.

Reads run in AUTOCOMMIT on connections of their own that are not reset when they are given back,
which saves the three round trips BEGIN, COMMIT and ROLLBACK around each statement.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Executable,
    Integer,
    MetaData,
    Numeric,
    Row,
    TypeDecorator,
    event,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import greenlet_spawn

from app.errors import UnavailableError
from app.settings import Settings

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# A statement took too long, the server stops or starts, a lock or a deadlock was in the way: the
# same request may succeed later (https://www.postgresql.org/docs/current/errcodes-appendix.html).
PASSING_STATES = frozenset({"57014", "57P01", "57P02", "57P03", "55P03", "40001", "40P01"})

# SQLite counts up only columns that are declared INTEGER.
Identifier = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The base of all tables; constraints get names that a migration can refer to."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant; SQLite forgets the zone, so it is put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the instant in UTC."""
        del dialect
        if value is not None and value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value


class Money(TypeDecorator[Decimal]):
    """An exact amount with two decimals, never a float; SQLite keeps it in hundredths."""

    impl = Numeric(12, 2)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type."""
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else self.impl)

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:  # noqa: ANN401
        """Turn an amount into what the column holds."""
        if value is None or dialect.name != "sqlite":
            return value
        return int(value.scaleb(2))

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ANN401
        """Turn what the column holds into an amount."""
        if value is None or dialect.name != "sqlite":
            return value  # type: ignore[no-any-return]
        return Decimal(value).scaleb(-2)


def after_commit(session: AsyncSession, callback: Callable[[], None]) -> None:
    """Call something when the session's transaction is in the database, and not before.

    What is told elsewhere, to the journal for example, must not be told of a change that is rolled
    back.
    """
    session.info.setdefault("after_commit", []).append(callback)


def insert_or_ignore(session: AsyncSession, table: type[Base]) -> Any:  # noqa: ANN401
    """Return an INSERT that leaves a row alone which is there already; both dialects say it so."""
    dialect = session.get_bind().dialect.name
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return insert(table).on_conflict_do_nothing()


@contextmanager
def _translated_failures() -> Iterator[None]:
    """Turn a lost or a missing connection into an error that tells the caller to come back."""
    try:
        yield
    except PoolTimeoutError as error:
        raise UnavailableError from error
    except DBAPIError as error:
        sqlstate = getattr(error.orig, "sqlstate", None)
        if error.connection_invalidated or sqlstate in PASSING_STATES:
            raise UnavailableError from error
        raise


class Database:
    """Both engines of one worker. Making it connects to nothing."""

    def __init__(self, settings: Settings) -> None:
        self._read_engine = _create_engine(
            settings,
            settings.database_read_pool_size,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
        )
        self._write_engine = _create_engine(settings, settings.database_write_pool_size)
        self._sessions = async_sessionmaker(self._write_engine, expire_on_commit=False)

    async def fetch(
        self, statement: Executable, values: Mapping[str, Any]
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """Return the rows of one statement that stands for itself.

        It does what `reading` does, in one greenlet instead of several and a task.

        Raises:
            UnavailableError: when the database cannot be reached or has no connection free.
        """

        def run() -> Sequence[Row[*tuple[Any, ...]]]:
            with self._read_engine.sync_engine.connect() as connection:
                return connection.execute(statement, values).all()

        with _translated_failures():
            return await greenlet_spawn(run)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection on which each statement stands for itself.

        Raises:
            UnavailableError: when the database cannot be reached or has no connection free.
        """
        with _translated_failures():
            async with self._read_engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """Give a session in one transaction: committed at the end, rolled back on an exception.

        The first statement takes a connection, so what comes before it holds none.

        Raises:
            UnavailableError: when the database cannot be reached or has no connection free.
        """
        with _translated_failures():
            async with self._sessions.begin() as session:
                yield session
        for callback in session.info.get("after_commit", ()):
            callback()

    async def close(self) -> None:
        """Close every connection."""
        await self._read_engine.dispose()
        await self._write_engine.dispose()


def _create_engine(settings: Settings, pool_size: int, **options: Any) -> AsyncEngine:  # noqa: ANN401
    url = settings.sqlalchemy_url
    arguments: dict[str, Any] = {}
    if url.get_backend_name() == "postgresql":
        arguments = {
            "timeout": settings.database_connect_timeout,
            "server_settings": {
                "application_name": f"{settings.syslog_identifier} {settings.release}",
                "statement_timeout": str(int(settings.database_statement_timeout * 1000)),
                # Compiling costs more than it gains for statements of a few milliseconds.
                "jit": "off",
            },
        }
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=settings.database_pool_timeout,
        connect_args=arguments,
        **options,
    )
    event.listen(engine.sync_engine, "do_connect", _connect)
    if url.get_backend_name() == "postgresql":
        event.listen(engine.sync_engine, "checkout", _refuse_closed)
    if url.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


def _connect(dialect: Dialect, _: object, arguments: Any, options: Any) -> Any:  # noqa: ANN401
    """Connect; whatever is in the way of it means that the service cannot answer now."""
    try:
        return dialect.connect(*arguments, **options)
    except Exception as error:
        raise UnavailableError from error


def _refuse_closed(connection: Any, *_: object) -> None:  # noqa: ANN401
    """Let the pool replace a connection that the server has closed while nobody used it.

    The driver was told so by the kernel, so that asking it costs no round trip. All the others are
    judged anew as well: a server that restarts closes every one.
    """
    if connection.driver_connection.is_closed():
        message = "The server has closed the connection."
        raise InvalidatePoolError(message)


def _prepare_sqlite(connection: Any, _: object) -> None:  # noqa: ANN401
    """Make SQLite keep foreign keys, and let a reader and a writer work at the same time."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()
