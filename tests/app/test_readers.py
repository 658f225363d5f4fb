"""The connections on which single statements are read: who has them, and what ends them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import Float, Integer, bindparam, func, literal_column, select

from app.db import Database
from app.errors import UnavailableError
from app.prepared import Prepared
from app.settings import Settings
from tests.services import PostgreSQL

POOL = 3
NAME = "reading"
SLOW = Prepared(
    select(literal_column("1", Integer)).where(
        func.pg_sleep(bindparam("seconds", type_=Float)).is_not(None)
    )
)
BACKEND = Prepared(select(func.pg_backend_pid(type_=Integer)))
ECHO = Prepared(select(bindparam("number", type_=Integer).label("number")))
Start = Callable[..., Database]


@pytest.fixture
async def start(settings_with: Callable[..., Settings]) -> AsyncIterator[Start]:
    """Make a way to the database whose connections have a name of their own."""
    made: list[Database] = []

    def go(**changes: object) -> Database:
        chosen = settings_with(
            syslog_identifier=NAME,
            release="test",
            database_read_pool_size=POOL,
            database_statement_timeout=60,
            **changes,
        )
        made.append(Database(chosen))
        return made[-1]

    yield go
    for one in made:
        await one.close()


async def states(postgresql: PostgreSQL) -> list[str]:
    """What the connections of this test do."""
    found = await asyncio.to_thread(
        postgresql.execute,
        f"SELECT state FROM pg_stat_activity WHERE application_name = '{NAME} test'",
    )
    return found.split("\n") if found else []


async def backend(database: Database) -> int:
    return int((await database.fetch(BACKEND, {}))[0][0])


async def echo(database: Database, number: int) -> None:
    assert (await database.fetch(ECHO, {"number": number}))[0][0] == number


async def idle(postgresql: PostgreSQL) -> int:
    """Wait until no statement runs any more; return the number of connections."""
    deadline = time.monotonic() + 10
    while "active" in (found := await states(postgresql)):
        assert time.monotonic() < deadline, "A statement goes on for nobody."
        await asyncio.sleep(0.05)
    return len(found)


async def busy(postgresql: PostgreSQL) -> None:
    """Wait until a statement runs."""
    deadline = time.monotonic() + 10
    while "active" not in await states(postgresql):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_one_after_the_other_is_read_on_the_same_connection(start: Start) -> None:
    database = start()
    assert len({await backend(database) for _ in range(10)}) == 1


async def test_many_at_once_share_the_pool(start: Start, postgresql: PostgreSQL) -> None:
    database = start()
    await asyncio.gather(*(echo(database, number) for number in range(200)))
    assert await idle(postgresql) == POOL


async def test_who_wants_a_connection_of_the_pool_gets_one_that_is_at_hand(start: Start) -> None:
    database = start(database_pool_timeout=20)
    # All are at hand, and readers never end.
    await asyncio.gather(*(database.fetch(SLOW, {"seconds": 0.05}) for _ in range(POOL)))
    ended = asyncio.Event()

    async def read(number: int) -> None:
        while not ended.is_set():
            await echo(database, number)

    readers = [asyncio.create_task(read(number)) for number in range(3 * POOL)]
    for _ in range(20):
        async with database.reading() as connection:
            assert (await connection.exec_driver_sql("SELECT 1")).scalar() == 1
    ended.set()
    await asyncio.gather(*readers)


async def test_a_connection_that_the_server_has_closed_is_replaced(
    start: Start, postgresql: PostgreSQL
) -> None:
    database = start()
    before = await backend(database)
    await asyncio.to_thread(postgresql.execute, f"SELECT pg_terminate_backend({before})")
    deadline = time.monotonic() + 10
    # Until the news of it is here, the read fails as one that may be tried again.
    while True:
        try:
            assert await backend(database) != before
        except UnavailableError:
            assert time.monotonic() < deadline
        else:
            break
    await asyncio.gather(*(echo(database, number) for number in range(20)))
    assert await idle(postgresql) <= POOL


async def test_a_statement_that_nobody_waits_for_ends_on_the_server(
    start: Start, postgresql: PostgreSQL
) -> None:
    database = start()
    before = await backend(database)
    reading = asyncio.create_task(database.fetch(SLOW, {"seconds": 50}))
    await busy(postgresql)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await idle(postgresql)
    # What the connection has been amid is nobody's beginning.
    assert await backend(database) != before


@pytest.mark.parametrize("after", [0, 0.002, 0.02])
async def test_a_hundred_that_are_cut_off_leave_the_pool_whole(
    start: Start, postgresql: PostgreSQL, after: float
) -> None:
    database = start(database_pool_timeout=20)
    for _ in range(10):
        reading = [asyncio.create_task(database.fetch(SLOW, {"seconds": 50})) for _ in range(10)]
        # Some of them wait for a connection, some open one, some for the answer.
        await asyncio.sleep(after)
        for one in reading:
            one.cancel()
        ended = await asyncio.gather(*reading, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}
    await asyncio.gather(*(echo(database, number) for number in range(100)))
    async with database.reading() as connection:
        assert (await connection.exec_driver_sql("SELECT 1")).scalar() == 1
    assert await idle(postgresql) <= POOL
    # All of them can still be taken at once.
    slow = [database.fetch(SLOW, {"seconds": 0.3}) for _ in range(POOL)]
    began = time.monotonic()
    await asyncio.gather(*slow)
    assert time.monotonic() - began < 0.3 * POOL


async def test_who_waits_too_long_is_told_to_come_back(start: Start) -> None:
    database = start(database_pool_timeout=0.2)
    reading = [asyncio.create_task(database.fetch(SLOW, {"seconds": 2})) for _ in range(POOL)]
    await asyncio.sleep(0.5)
    with pytest.raises(UnavailableError):
        await echo(database, 1)
    await asyncio.gather(*reading)
    await echo(database, 2)


@pytest.mark.parametrize("way", ["reading", "writing"])
async def test_so_does_one_on_a_connection_of_its_own(
    start: Start, postgresql: PostgreSQL, way: str
) -> None:
    database = start(database_pool_timeout=20)

    async def sleep() -> None:
        async with getattr(database, way)() as connection:
            await connection.execute(SLOW.query, {"seconds": 50})

    for _ in range(5):
        working = [asyncio.create_task(sleep()) for _ in range(2 * POOL)]
        await busy(postgresql)
        for one in working:
            one.cancel()
        ended = await asyncio.gather(*working, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}
    # Of the two pools one has been used.
    assert await idle(postgresql) <= POOL + 1
    async with getattr(database, way)() as connection:
        assert (await connection.execute(ECHO.query, {"number": 7})).scalar() == 7
