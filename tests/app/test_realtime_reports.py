"""Faults of live messages: they are written down, and the error tracker hears of them."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
import redis.asyncio

from app.cache import Cache
from app.error_reports import ErrorReports
from app.errors import UnavailableError
from app.realtime.bus import CHANNEL
from app.realtime.desk import OwnDesk
from app.realtime.leaving import Leaving
from app.realtime.service import Live
from app.realtime.sockets import Member
from app.settings import Settings
from tests.services import RedisServer


class Reports(ErrorReports):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[type[BaseException], str | None]] = []

    def report(self, error: BaseException, **about: Any) -> None:
        self.told.append((type(error), about.get("place")))

    async def becomes(self, kind: type[BaseException], least: int = 1) -> None:
        async with asyncio.timeout(20):
            while len(self.told) < least:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert all(issubclass(one, kind) and place == "realtime" for one, place in self.told)


class Sessions:
    """Cannot tell."""

    async def going_on(self, session_ids: Iterable[int]) -> frozenset[int]:
        raise LookupError(list(session_ids))


async def test_a_message_that_no_worker_understands_is_reported_and_the_bus_comes_back(
    redis_server: RedisServer, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(environment="development", cache_url=redis_server.url)
    cache, reports = Cache(settings), Reports()
    live = Live(settings, cache, Sessions(), reports)
    await live.start()
    store = redis.asyncio.Redis.from_url(redis_server.url)
    try:
        await store.publish(CHANNEL, bytes(8) + b"m[")
        await reports.becomes(ValueError)
        async with asyncio.timeout(20):
            while not live._bus.up:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        await live.stop()
        await store.aclose()
        await cache.close()
    written = "".join(capfd.readouterr())
    assert "websocket.bus_failed" in written
    assert "_take" in written


async def test_a_look_that_fails_is_reported_and_is_not_the_last() -> None:
    settings = Settings(environment="development", websocket_recheck_seconds=0.01)
    cache, reports = Cache(settings), Reports()
    live = Live(settings, cache, Sessions(), reports)
    live._of_session[1] = set()
    await live.start()
    try:
        await reports.becomes(LookupError, 2)
    finally:
        await live.stop()


async def test_places_are_kept_while_the_database_is_away() -> None:
    class Away(Sessions):
        async def going_on(self, session_ids: Iterable[int]) -> frozenset[int]:
            raise UnavailableError

    class Desk(OwnDesk):
        async def renew(self, *_: Any) -> list[Member]:
            renewed.append(True)
            return []

    renewed: list[bool] = []
    settings = Settings(environment="development", websocket_recheck_seconds=0.01)
    live = Live(settings, Cache(settings), Away(), Reports())
    live._of_session[1] = set()
    live._desk = Desk()
    await live.start()
    try:
        async with asyncio.timeout(20):
            while len(renewed) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        await live.stop()


async def test_places_that_cannot_be_given_back_are_reported_and_others_are() -> None:
    class Desk(OwnDesk):
        async def leave(self, members: Any) -> None:
            if members and members[0].user_id == 1:
                raise LookupError
            left.extend(members)

    left: list[Member] = []
    reports = Reports()
    leaving = Leaving(Desk(), reports)
    leaving.start()
    leaving.add(Member("a", 1, 1, "a"))
    await reports.becomes(LookupError)
    leaving.add(Member("b", 2, 2, "b"))
    async with asyncio.timeout(20):
        while not left:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await leaving.stop()
    assert [one.client_id for one in left] == ["b"]
