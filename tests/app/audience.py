"""A worker's room without a server: its clients hear at once whatever they are sent."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from app.cache import Cache
from app.error_reports import ErrorReports
from app.realtime.desk import Grant
from app.realtime.service import Live
from app.realtime.sockets import Ending, Message
from app.settings import Settings

BYE = {"type": "websocket.disconnect", "code": 1000}


class Sessions:
    """All go on."""

    async def going_on(self, session_ids: Iterable[int]) -> frozenset[int]:
        return frozenset(session_ids)


class Client:
    """One who hears at once whatever the service sends."""

    def __init__(self, live: Live, user_id: int, name: str) -> None:
        self.name = name
        self.heard: list[dict[str, Any]] = []
        self.ending: Ending | None = None
        self._says: asyncio.Queue[Message] = asyncio.Queue()
        self._task = asyncio.create_task(self._talk(live, user_id))

    def say(self, text: str) -> None:
        self._says.put_nowait({"type": "websocket.receive", "text": text})

    async def leave(self) -> None:
        self._says.put_nowait(BYE)
        await self._task

    def contents(self) -> list[str]:
        return [one["content"] for one in self.heard if one["type"] == "message"]

    async def _talk(self, live: Live, user_id: int) -> None:
        async with live.admitted(Grant(user_id, user_id), self.name) as socket:
            self.ending = await live.talk(socket, self._says.get, self._hear)

    async def _hear(self, message: Message) -> None:
        if message["type"] == "websocket.send":
            self.heard.append(json.loads(message["text"]))


def live_of(**settings: Any) -> Live:
    made = Settings(environment="development", **settings)
    return Live(made, Cache(made), Sessions(), ErrorReports())


async def crowd(live: Live, count: int, *, accounts: int) -> list[Client]:
    """Return so many clients, of whom each has been welcomed."""
    clients = [Client(live, number % accounts, f"c{number}") for number in range(count)]
    await rest(clients, 1)
    return clients


async def rest(clients: list[Client], count: int) -> None:
    """Wait until each has heard so many messages, or is closed."""
    async with asyncio.timeout(20):
        while any(len(one.heard) < count and one.ending is None for one in clients):  # noqa: ASYNC110
            await asyncio.sleep(0)
