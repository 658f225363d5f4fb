"""Many who speak or leave in one instant: nobody who reads is closed for it."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.app.audience import Client, crowd, live_of, rest
from tests.app.live import Worker, gunicorn, heard, running_worker


@pytest.mark.parametrize(
    ("speakers", "accounts", "times"),
    [(10, 1, 26), (300, 300, 1)],
    ids=["one account", "many accounts"],
)
async def test_short_texts_of_one_instant_close_nobody(
    speakers: int, accounts: int, times: int
) -> None:
    live = live_of()
    silent = await crowd(live, 20, accounts=20)
    talking = [Client(live, 1000 + n % accounts, f"t{n}") for n in range(speakers)]
    await rest(talking, 1)
    for client in talking:
        for number in range(times):
            client.say(f"{client.name} {number}")
    await rest([*silent, *talking], 1 + speakers * times)
    for client in (*silent, *talking):
        assert client.ending is None
        contents = client.contents()
        assert len(contents) == speakers * times
        # Whatever comes between, each one is heard in its order.
        for one in talking:
            said = [text for text in contents if text.startswith(f"{one.name} ")]
            assert said == [f"{one.name} {number}" for number in range(times)]
    await asyncio.gather(*(client.leave() for client in (*silent, *talking)))


async def test_who_leave_at_once_close_nobody_who_stays() -> None:
    live = live_of()
    staying = await crowd(live, 20, accounts=20)
    leaving = [Client(live, 1000 + number, f"l{number}") for number in range(300)]
    await rest(leaving, 1)
    await asyncio.gather(*(client.leave() for client in leaving))
    await rest(staying, 301)
    for client in staying:
        assert client.ending is None
        left = [one["client_id"] for one in client.heard if one["type"] == "disconnected"]
        assert sorted(left) == sorted(one.name for one in leaving)
    await asyncio.gather(*(client.leave() for client in staying))


@pytest.mark.parametrize("queue", [4, 5, 100])
async def test_a_smaller_queue_is_not_overrun_either(queue: int) -> None:
    live = live_of(websocket_queue=queue)
    clients = await crowd(live, 30, accounts=30)
    for client in clients:
        for number in range(20):
            client.say(str(number))
    await rest(clients, 601)
    assert {client.ending for client in clients} == {None}
    await asyncio.gather(*(client.leave() for client in clients))


@pytest.fixture
def worker(empty_once: None, database_url: str, tmp_path: Path) -> Iterator[Worker]:
    def command(port: int) -> list[str]:
        return ["--workers=1" if one == "--workers=2" else one for one in gunicorn(port)]

    with running_worker(tmp_path / "crowds", command, database_url=database_url) as one:
        yield one


def child_of(master: int) -> int:
    (child,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return int(child)


async def test_a_worker_reads_what_ten_sockets_say_in_one_instant(worker: Worker) -> None:
    loud, quiet = await worker.session("loud"), await worker.session("quiet")
    async with AsyncExitStack() as stack:
        silent = [
            await stack.enter_async_context(worker.joined(f"q{number}", quiet))
            for number in range(10)
        ]
        talking = [
            await stack.enter_async_context(worker.joined(f"t{number}", loud))
            for number in range(10)
        ]
        # All of it is there when the worker looks again.
        child = child_of(worker.process.pid)
        os.kill(child, signal.SIGSTOP)
        for client in talking:
            for _ in range(39):
                await client.send("hi")
        os.kill(child, signal.SIGCONT)
        for client in (*silent, *talking):
            for _ in range(390):
                assert (await heard(client))["content"] == "hi"
