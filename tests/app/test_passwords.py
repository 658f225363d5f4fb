"""Hashes of several workers on the processors of one host."""

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.errors import UnavailableError
from app.passwords import Passwords, Turns
from tests.app.conftest import StartApp, log_in, register

HOLDER = """
import sys, time
from pathlib import Path
from app.passwords import Turns
with Turns(Path(sys.argv[1]), 2).taken():
    print("taken", flush=True)
    time.sleep(60)
"""


class Crowd:
    """Counts how many are in it at once."""

    def __init__(self) -> None:
        self.largest = 0
        self._inside = 0
        self._lock = threading.Lock()

    def visit(self, turns: Turns) -> None:
        with turns.taken():
            with self._lock:
                self._inside += 1
                self.largest = max(self.largest, self._inside)
            time.sleep(0.02)
            with self._lock:
                self._inside -= 1


def visited(folder: Path | None, processors: int) -> int:
    crowd = Crowd()
    # Each worker has its own.
    visits = [
        threading.Thread(target=crowd.visit, args=(Turns(folder, processors),)) for _ in range(16)
    ]
    for visit in visits:
        visit.start()
    for visit in visits:
        visit.join()
    return crowd.largest


@pytest.mark.parametrize(("processors", "at_once"), [(1, 1), (2, 1), (4, 3)])
def test_one_processor_is_left_to_other_requests(
    tmp_path: Path, processors: int, at_once: int
) -> None:
    assert visited(tmp_path, processors) == at_once


def test_nobody_waits_outside_of_a_unit_or_when_its_folder_is_gone(tmp_path: Path) -> None:
    assert visited(None, 1) > 1
    assert visited(tmp_path / "gone", 1) > 1


def test_a_worker_that_is_killed_gives_its_turn_back(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "taken\n"
        done = threading.Event()

        def take() -> None:
            with Turns(tmp_path, 2).taken():
                done.set()

        waiting = threading.Thread(target=take)
        waiting.start()
        try:
            assert not done.wait(0.3)
        finally:
            holder.kill()
        assert done.wait(10)
        waiting.join()


async def test_a_password_is_verified_in_turn(tmp_path: Path) -> None:
    with contextlib.closing(Passwords(2, Turns(tmp_path, 2))) as passwords:
        stored = await passwords.hash("Correct-horse-7")
        assert await passwords.verify("Correct-horse-7", stored) == (True, None)
        assert await passwords.verify("Wrong-horse-7", stored) == (False, None)
        assert (await passwords.verify("Correct-horse-7", None))[0] is False


async def test_who_finds_the_line_full_is_told_to_come_back(start_app: StartApp) -> None:
    """Alike for names that are known and those that are not; the others get their answer."""
    client = await start_app(password_threads=1, passwords_waiting=3)
    for name in ("ann", "bob"):
        await register(client, name)
    names = ["ann", "nobody"] * 8
    answers = await asyncio.gather(*(log_in(client, name, "Wrong-horse-7") for name in names))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert 4 <= len(names) - len(refused) < len(names)
    assert {answer.headers["retry-after"] for answer in refused} == {"2"}
    assert {answer.status_code for answer in answers} == {401, 503}
    assert len({answer.json()["detail"] for answer in refused}) == 1
    assert (await log_in(client, "bob")).status_code == 200


async def test_the_line_is_bounded_and_who_has_left_is_not_hashed() -> None:
    hashed: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def slowly(password: str) -> str:
        hashed.append(password)
        begun.set()
        go_on.wait(10)
        return password

    with contextlib.closing(Passwords(1, Turns(None, 1), longest_line=2)) as passwords:
        line = [asyncio.create_task(passwords._run(slowly, name)) for name in ("a", "b", "c")]
        await asyncio.to_thread(begun.wait, 10)
        with pytest.raises(UnavailableError):
            await passwords._run(slowly, "d")
        line[1].cancel()
        await asyncio.sleep(0.05)
        line.append(asyncio.create_task(passwords._run(slowly, "e")))
        await asyncio.sleep(0.05)
        go_on.set()
        await asyncio.wait(line)
    assert hashed == ["a", "c", "e"]
