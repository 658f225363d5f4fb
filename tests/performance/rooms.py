"""A room without any checks, to compare live messages with: the same server, store and JSON."""

import asyncio
import os
from typing import Any

import orjson
import redis.asyncio

_CHANNEL = "room"


class Room:
    """An ASGI application that publishes what its clients say and sends on what was published."""

    def __init__(self) -> None:
        self._senders: set[Any] = set()
        self._client = redis.asyncio.Redis.from_url(os.environ["APP_CACHE_URL"])
        self._listening: asyncio.Task[None]

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await self._talk(scope["path"].rpartition("/")[2], receive, send)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def _talk(self, client_id: str, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "harbour.v1"})
        self._senders.add(send)
        try:
            while (message := await receive())["type"] == "websocket.receive":
                text = message["text"]
                said = {"type": "message", "client_id": client_id, "content": text}
                said["echo"] = f"Server received: {text}"
                await self._client.publish(_CHANNEL, orjson.dumps(said))
        finally:
            self._senders.discard(send)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        subscription = self._client.pubsub()
        await subscription.subscribe(_CHANNEL)
        self._listening = asyncio.create_task(self._listen(subscription))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._listening.cancel()
        await self._client.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _listen(self, subscription: Any) -> None:
        async for message in subscription.listen():
            if message["type"] == "message":
                text = message["data"].decode()
                for send in list(self._senders):
                    await send({"type": "websocket.send", "text": text})


def room() -> Room:
    """Make it."""
    return Room()
