"""With which code a WebSocket has ended, whoever has closed it."""

import asyncio

import pytest

from app.realtime import frames
from app.realtime.sockets import RESTART, SESSION_ENDED, Bucket, Ending, Member, Message, Socket
from app.settings import Settings


def welcomed() -> Socket:
    """A socket with something to send."""
    limits = Bucket(1000, 1000, 0.0)
    settings = Settings(environment="development")
    socket = Socket(Member("ann", 1, 1, "a"), settings, limits, limits)
    socket.offer(frames.frame_of(frames.connected("ann")))
    return socket


async def said(*_: object) -> None:
    raise AssertionError


async def ending_of(message: Message, *, broken: bool = False) -> Ending:
    """What becomes of a socket that hears this; a broken one can be sent nothing meanwhile."""
    told: asyncio.Queue[Message] = asyncio.Queue()

    async def send(_: Message) -> None:
        if broken:
            asyncio.get_running_loop().call_soon(told.put_nowait, message)
            raise OSError

    if not broken:
        told.put_nowait(message)
    async with asyncio.timeout(20):
        return await welcomed().run(told.get, send, said)


@pytest.mark.parametrize("broken", [False, True])
async def test_a_stop_of_the_server_is_one_also_for_whom_something_was_under_way(
    broken: bool,
) -> None:
    ending = await ending_of({"type": "websocket.disconnect", "code": 1012}, broken=broken)
    assert (ending.code, ending.by_client) == (RESTART, True)


@pytest.mark.parametrize(
    ("code", "seen"), [(1000, 1000), (1001, 1001), (1012, 1000), (1013, 1000), (4401, 1000)]
)
async def test_no_client_says_what_only_the_service_can(code: int, seen: int) -> None:
    ending = await ending_of({"type": "websocket.disconnect", "code": code, "reason": "bye"})
    assert (ending.code, ending.by_client) == (seen, True)


async def test_a_connection_of_which_nothing_is_heard_any_more_has_ended_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.realtime.sockets._PARTING_SECONDS", 0.05)

    async def nothing() -> Message:
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    async def send(_: Message) -> None:
        raise OSError

    async with asyncio.timeout(20):
        assert (await welcomed().run(nothing, send, said)).code == 1006


async def test_a_session_that_ends_while_its_socket_opens_closes_it_and_warns_of_nothing(
    recwarn: pytest.WarningsRecorder,
) -> None:
    socket = welcomed()
    socket.end(SESSION_ENDED)
    heard: asyncio.Queue[Message] = asyncio.Queue()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(20):
        assert await socket.run(heard.get, send, said) == SESSION_ENDED
    assert [(one["type"], one["code"]) for one in sent] == [("websocket.close", 4401)]
    # The loop lets go of the step that has just ended, and of what it holds.
    await asyncio.sleep(0)
    assert not [one for one in recwarn if "never awaited" in str(one.message)]
