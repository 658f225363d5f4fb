"""The ways to the database: one for reading, one for transactions.

Reads run in AUTOCOMMIT on connections of their own that are not reset when they are given back,
which saves the three round trips BEGIN, COMMIT and ROLLBACK around each statement.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Integer,
    MetaData,
    Numeric,
    Table,
    TypeDecorator,
    event,
)
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeEngine

from app.database_failures import translated_failures, unavailable
from app.prepared import Prepared
from app.readers import Readers
from app.settings import Settings

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# Each of them a sequence of values, whatever class the driver makes of it.
Rows: TypeAlias = Sequence[Sequence[Any]]

# SQLite counts up only columns that are declared INTEGER.
Identifier = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The base of all tables; constraints get names that a migration can refer to."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


def table_of(model: type[Base]) -> Table:
    """Return the table of a model, of which a statement costs less than one of the model.

    Values of a statement of the model are checked anew each time, which takes longer than it.
    """
    return Base.metadata.tables[model.__tablename__]


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

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:  # noqa: ANN401
        """Leave alone what PostgreSQL returns: a call for each value costs more than it seems."""
        return super().result_processor(dialect, coltype) if dialect.name == "sqlite" else None


class Money(TypeDecorator[Decimal]):
    """An exact amount with two decimals, never a float; SQLite keeps it in hundredths."""

    impl = Numeric(12, 2)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type."""
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else self.impl)

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        """Turn an amount into what SQLite holds."""
        del dialect
        return None if value is None else int(value.scaleb(2))

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ANN401
        """Turn what SQLite holds into an amount."""
        del dialect
        return None if value is None else Decimal(value).scaleb(-2)

    def bind_processor(self, dialect: Dialect) -> Any:  # noqa: ANN401
        """Leave alone what PostgreSQL takes."""
        return super().bind_processor(dialect) if dialect.name == "sqlite" else None

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:  # noqa: ANN401
        """Leave alone what PostgreSQL returns."""
        return super().result_processor(dialect, coltype) if dialect.name == "sqlite" else None


def after_commit(session: AsyncSession, callback: Callable[[], Awaitable[None] | None]) -> None:
    """Call something when the session's transaction is in the database, and not before.

    What it returns is awaited before the caller gets an answer.

    What is told elsewhere, to the journal for example, must not be told of a change that is rolled
    back.
    """
    session.info.setdefault("after_commit", []).append(callback)


class Database:
    """Both engines of one worker. Making it connects to nothing."""

    def __init__(self, settings: Settings) -> None:
        self._read_engine = _create_engine(
            settings,
            settings.database_read_pool_size,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
        )
        self._readers = Readers(
            self._read_engine.sync_engine.pool,
            settings.database_read_pool_size,
            settings.database_pool_timeout,
        )
        self._is_postgresql = settings.sqlalchemy_url.get_backend_name() == "postgresql"
        self._write_engine = _create_engine(settings, settings.database_write_pool_size)
        # What features let each other know by way of a transaction.
        self.known: dict[str, Any] = {}
        self._sessions = async_sessionmaker(
            self._write_engine, expire_on_commit=False, info=self.known
        )

    async def fetch(self, statement: Prepared, values: Mapping[str, Any]) -> Rows:
        """Return the rows of one statement that stands for itself, with its columns in order.

        PostgreSQL is asked through its driver: of what SQLAlchemy does with a statement only its
        text is needed here, and the rest costs more than the driver and the network.

        Raises:
            UnavailableError: when the database cannot be reached or has no connection free.
        """
        with translated_failures():
            if not self._is_postgresql:
                async with self._read_engine.connect() as connection:
                    return (await connection.execute(statement.query, values)).all()
            borrowed = await self._readers.take()
            driver: Any = borrowed.driver_connection
            try:
                rows: Rows = await driver.fetch(statement.text, *statement.arguments(values))
            except Exception as error:
                closed = driver.is_closed()
                if closed:
                    borrowed.invalidate(error)
                self._readers.give_back(borrowed)
                if closed:
                    raise unavailable(error) from error
                raise
            except BaseException:
                self._readers.cut_off(borrowed)
                raise
            self._readers.give_back(borrowed)
            return rows

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection on which each statement stands for itself.

        Raises:
            UnavailableError: when the database cannot be reached or has no connection free.
        """
        with translated_failures():
            async with self._readers.turn(), self._read_engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """Give a session in one transaction: committed at the end, rolled back on an exception.

        The first statement takes a connection, so what comes before it holds none.

        Raises:
            UnavailableError: when the database cannot be reached or has no connection free.
        """
        with translated_failures():
            async with self._sessions.begin() as session:
                yield session
        for callback in session.info.get("after_commit", ()):
            if (under_way := callback()) is not None:
                await under_way

    async def close(self) -> None:
        """Close every connection."""
        await self._readers.close()
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
                # A request to cancel may come before its statement (libpq's PQcancel): the server
                # then finds out by itself that nobody waits.
                "client_connection_check_interval": "2s",
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
        hide_parameters=True,
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
        raise unavailable(error) from error


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
