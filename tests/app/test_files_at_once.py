"""How many files come and go at once, and how slowly."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cache import CacheDownError
from tests.app.conftest import StartApp
from tests.app.s3_server import running_s3
from tests.app.test_files import FILES, UPLOAD, code_of, form, kept, logged_in, upload

MIB = 1024 * 1024
BODY, HEADERS = form(('name="file"; filename="a.txt"', b"x" * 1000))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of its own for the files of one test."""
    made = tmp_path / "files"
    made.mkdir()
    return made


class Held:
    """An upload whose client waits before its last bytes."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._asked, self._goes_on = asyncio.Event(), asyncio.Event()
        request = client.post(UPLOAD, content=self._pieces(), headers=HEADERS)
        self._task = asyncio.create_task(request)

    async def begun(self) -> "Held":
        async with asyncio.timeout(10):
            await self._asked.wait()
        return self

    async def ended(self) -> int:
        self._goes_on.set()
        return (await self._task).status_code

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield BODY[:-10]
        self._asked.set()
        await self._goes_on.wait()
        yield BODY[-10:]


async def second(start_app: StartApp, first: httpx.AsyncClient, **changes: Any) -> Any:
    """Another instance, for the same caller."""
    client = await start_app(**changes)
    client.headers["Authorization"] = first.headers["Authorization"]
    return client


async def test_an_account_has_a_few_uploads_on_all_workers_together(
    start_app: StartApp, folder: Path
) -> None:
    one = await logged_in(await start_app(file_folder=folder))
    other = await second(start_app, one, file_folder=folder)
    held = [await Held(client).begun() for client in (one, other, one)]
    for client in (one, other):
        refused = await upload(client)
        assert code_of(refused) == (429, "too_many_uploads")
        assert refused.headers["retry-after"] == "1"
    assert await held.pop().ended() == 201
    assert (await upload(other)).status_code == 201
    # Others have places of their own.
    stranger = await logged_in(await start_app(file_folder=folder), "bob")
    assert (await upload(stranger)).status_code == 201
    assert [await one.ended() for one in held] == [201, 201]


@pytest.mark.parametrize("url", [None, "unix:///nonexistent"])
async def test_without_the_store_each_worker_counts_for_itself(
    start_app: StartApp, folder: Path, url: str | None
) -> None:
    client = await logged_in(
        await start_app(file_folder=folder, cache_url=url, uploads_per_account=1)
    )
    held = await Held(client).begun()
    assert code_of(await upload(client)) == (429, "too_many_uploads")
    assert await held.ended() == 201
    assert (await upload(client)).status_code == 201


async def test_what_ends_badly_gives_its_place_back(start_app: StartApp, folder: Path) -> None:
    client = await logged_in(await start_app(file_folder=folder, uploads_per_account=1))
    for _ in range(3):
        assert code_of(await upload(client, "a.exe")) == (400, "file_not_allowed")
    held = await Held(client).begun()
    held._task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held.ended()
    assert (await upload(client)).status_code == 201


async def test_a_place_is_kept_while_its_upload_goes_on_and_no_longer(
    start_app: StartApp, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.transfers._PLACE_SECONDS", 2)
    changes = {"file_folder": folder, "uploads_per_account": 1}
    one = await logged_in(await start_app(**changes))
    other = await second(start_app, one, **changes)
    held = await Held(one).begun()
    await asyncio.sleep(3.5)
    assert code_of(await upload(other)) == (429, "too_many_uploads")
    # As when its worker is killed: nobody keeps the place, and nobody gives it back.
    cache = one.application.state.resources.cache  # type: ignore[attr-defined]
    monkeypatch.setattr(cache, "run", gone)
    await asyncio.sleep(3)
    assert (await upload(other)).status_code == 201
    assert await held.ended() == 201


async def gone(*_: object) -> None:
    raise CacheDownError


async def test_an_upload_that_comes_too_slowly_is_ended(
    start_app: StartApp, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.files.pace._PATIENCE", 0.5)
    client = await logged_in(await start_app(file_folder=folder, upload_bytes_per_second=10_000))

    async def slowly(count: int, size: int, pause: float) -> AsyncIterator[bytes]:
        body, _ = form(('name="file"; filename="a.txt"', b"x" * count * size))
        for start in range(0, len(body), size):
            yield body[start : start + size]
            await asyncio.sleep(pause)

    # Each piece comes soon enough for itself.
    answer = await client.post(UPLOAD, content=slowly(20, 100, 0.1), headers=HEADERS)
    assert code_of(answer) == (408, "request_timeout")
    assert answer.headers["connection"] == "close"
    # What was fast at first may not wait for long after that.
    held = await Held(client).begun()
    async with asyncio.timeout(5):
        assert (await held._task).status_code == 408
    assert kept(folder) == []
    assert (await client.get(FILES)).json()["total"] == 0
    answer = await client.post(UPLOAD, content=slowly(20, 2000, 0.1), headers=HEADERS)
    assert answer.status_code == 201


async def test_a_worker_sends_so_many_files_itself_and_no_more(
    start_app: StartApp, folder: Path
) -> None:
    client = await logged_in(await start_app(file_folder=folder, downloads_per_worker=1))
    content = b"x" * 5 * MIB
    file_id = (await upload(client, content=content)).json()["id"]
    transfers = client.application.state.resources.transfers  # type: ignore[attr-defined]
    async with transfers.downloading():
        refused = await client.get(f"{FILES}/{file_id}")
    assert code_of(refused) == (503, "too_many_transfers")
    assert refused.headers["retry-after"] == "2"
    for _ in range(2):
        assert (await client.get(f"{FILES}/{file_id}")).content == content
    # One that is not there gives its place back as well.
    for path in kept(folder):
        path.unlink()
    for _ in range(2):
        assert code_of(await client.get(f"{FILES}/{file_id}")) == (404, "file_lost")


async def test_a_worker_takes_so_many_uploads_to_a_bucket_and_no_more(
    start_app: StartApp, tmp_path: Path
) -> None:
    with running_s3(tmp_path) as server:
        client = await logged_in(await start_app(**server.settings, s3_uploads_per_worker=1))
        held = await Held(client).begun()
        assert code_of(await upload(client)) == (503, "too_many_transfers")
        assert await held.ended() == 201
        assert (await upload(client)).status_code == 201
