"""What an account may say is not forgotten when it closes its sockets, nor remembered for ever."""

import asyncio

import pytest

from app.realtime.allowances import Allowances
from app.settings import Settings
from tests.app.audience import Client, live_of, rest

SLOWLY = {"websocket_messages_per_second": 0.01, "websocket_bytes_per_second": 0.01}


@pytest.mark.parametrize(
    ("text", "times", "reason"),
    [("hi", 40, "You send too many messages."), ("x" * 60_000, 2, "You send too many bytes.")],
    ids=["messages", "bytes"],
)
async def test_who_comes_back_has_no_new_allowance(text: str, times: int, reason: str) -> None:
    live = live_of(**SLOWLY)
    first = Client(live, 1, "first")
    for _ in range(times):
        first.say(text)
    await rest([first], 1 + times)
    await first.leave()
    assert len(first.contents()) == times
    again = Client(live, 1, "again")
    await rest([again], 1)
    again.say(text)
    await rest([again], 2)
    assert again.ending is not None
    assert (again.ending.code, again.ending.reason) == (1008, reason)
    # Nobody else has to bear it.
    other = Client(live, 2, "other")
    other.say(text)
    await rest([other], 2)
    assert other.contents() == [text]
    await other.leave()


async def test_sockets_that_are_open_together_have_messages_of_their_own() -> None:
    live = live_of(**SLOWLY)
    clients = [Client(live, 1, f"c{number}") for number in range(3)]
    await rest(clients, 1)
    for client in clients:
        for _ in range(40):
            client.say("hi")
    await rest(clients, 121)
    assert {client.ending for client in clients} == {None}
    await asyncio.gather(*(client.leave() for client in clients))


def test_what_is_as_good_as_new_is_forgotten() -> None:
    allowances = Allowances(Settings(environment="development"))
    budget, messages = allowances.opened(1, 0.0)
    assert budget.take(0.0, 262_144)
    assert all(messages.take(0.0) for _ in range(40))
    allowances.closed(1, messages)
    for user_id in range(2, 1000):
        allowances.closed(user_id, allowances.opened(user_id, 0.0)[1])
    allowances.forget_full(1.0)
    assert len(allowances) == 1
    # The socket that is opened next goes on where the last one was.
    assert allowances.opened(1, 1.0) == (budget, messages)
    allowances.forget_full(100.0)
    assert len(allowances) == 1
    allowances.closed(1, messages)
    allowances.forget_full(101.0)
    assert len(allowances) == 0
