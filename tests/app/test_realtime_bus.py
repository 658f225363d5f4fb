"""When a worker takes the store, by which it hears the others, for away."""

import asyncio
import time
from typing import Any

import orjson
import pytest

from tests.app.audience import live_of

TEXTS, SECONDS_EACH, PULSE_SECONDS = 50, 0.02, 0.2


class Subscription:
    """Brings one message of many texts, and answers each ping at once, or none."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        data = bytes(8) + b"m" + orjson.dumps(["x"] * TEXTS)
        self._said.put_nowait({"type": "message", "data": data})

    async def get_message(self, **_: Any) -> dict[str, Any]:
        return await self._said.get()

    async def ping(self) -> None:
        if self._answers:
            self._said.put_nowait({"type": "pong"})


@pytest.mark.parametrize("answers", [True, False])
async def test_a_store_is_away_when_it_is_silent_and_not_while_the_worker_is_busy(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr("app.realtime.bus._PULSE_SECONDS", PULSE_SECONDS)
    handed_out: list[str] = []

    def deliver(text: str) -> None:
        time.sleep(SECONDS_EACH)
        handed_out.append(text)

    live = live_of()
    monkeypatch.setattr(live, "deliver", deliver)
    subscription = Subscription(answers=answers)
    listening = asyncio.create_task(live._bus._listen(subscription))
    watching = asyncio.create_task(live._bus._watch(subscription))
    try:
        async with asyncio.timeout(20):
            while len(handed_out) < TEXTS:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert not watching.done()
        await asyncio.wait([watching], timeout=5 * PULSE_SECONDS if answers else 20)
        assert watching.done() is not answers
    finally:
        for task in (listening, watching):
            task.cancel()
        ends = await asyncio.gather(listening, watching, return_exceptions=True)
    assert isinstance(ends[1], asyncio.CancelledError if answers else TimeoutError)
