"""Files when something goes wrong: full disks, quotas, uploads that end early, lost processes."""

import asyncio
import contextlib
import dataclasses
import errno
import fcntl
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import files
from app.db import Database
from app.file_stores import new_name
from app.file_stores.half import LocalHalf, remove_half
from app.file_stores.local import LocalStore
from app.job_handlers import handlers
from app.jobs.handlers import JobResources
from app.mail import Mailer
from tests.app.conftest import RunSql, StartApp
from tests.app.test_files import FILES, SEVERAL, UPLOAD, code_of, form, kept, logged_in, upload

MIB = 1024 * 1024
TEXT = 'name="file"; filename="a.txt"'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of its own for the files of one test."""
    made = tmp_path / "files"
    made.mkdir()
    return made


@pytest.fixture
async def client(start_app: StartApp, folder: Path) -> httpx.AsyncClient:
    """An instance with a folder of its own, whose caller is logged in."""
    return await logged_in(await start_app(file_folder=folder))


@pytest.fixture
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of four megabytes, with further options if the test has some."""
    place = tmp_path / "small"
    place.mkdir()
    options = ",".join(["size=4m", *getattr(request, "param", ())])
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("This needs the right to mount a small file system.")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def resources_of(client: httpx.AsyncClient) -> Any:
    return client.application.state.resources  # type: ignore[attr-defined]


def in_pieces(
    body: bytes, before: Callable[[], Any] = lambda: None, size: int = 65_536
) -> AsyncIterator[bytes]:
    """Send a body without saying how long it is; something happens before its last piece."""

    async def pieces() -> AsyncIterator[bytes]:
        last = max(0, len(body) - 10)
        for start in range(0, last, size):
            yield body[start : min(start + size, last)]
        happened = before()
        if asyncio.iscoroutine(happened):
            await happened
        yield body[last:]

    return pieces()


async def is_empty(client: httpx.AsyncClient, folder: Path) -> bool:
    listed = (await client.get(FILES)).json()
    return kept(folder) == [] and (listed["total"], listed["used"]) == (0, 0)


async def test_a_full_disk_leaves_nothing_half_and_takes_files_again(
    start_app: StartApp, small: Path
) -> None:
    client = await logged_in(await start_app(file_folder=small))
    resources = resources_of(client)
    # Without its own look at the disk, so that the system itself refuses.
    blind = LocalStore(small, -(10**12))
    state = client.application.state  # type: ignore[attr-defined]
    state.resources = dataclasses.replace(resources, files=blind)
    body, headers = form((TEXT, b"x" * 6 * MIB))
    for content in (body, in_pieces(body)):
        answer = await client.post(UPLOAD, content=content, headers=headers)
        assert code_of(answer) == (507, "storage_full")
        assert await is_empty(client, small)
    several = [("files", ("a.txt", b"x" * MIB)) for _ in range(5)]
    assert code_of(await client.post(SEVERAL, files=several)) == (507, "storage_full")
    assert await is_empty(client, small)
    assert (await upload(client, content=b"x" * 2 * MIB)).status_code == 201
    blind.close()
    state.resources = resources


async def test_the_reserve_is_refused_before_the_body_is_read(
    start_app: StartApp, small: Path
) -> None:
    client = await logged_in(await start_app(file_folder=small, file_reserve=2 * MIB))

    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"x")
        yield b"x"

    _, headers = form()
    announced = {**headers, "Content-Length": str(3 * MIB)}
    answer = await client.post(UPLOAD, content=body(), headers=announced)
    assert (code_of(answer), read) == ((507, "storage_full"), [])
    assert (await upload(client, content=b"x" * MIB)).status_code == 201


@pytest.mark.parametrize("small", [["nr_inodes=1010"]], indirect=True)
async def test_the_entries_of_the_file_system_are_not_used_up(
    start_app: StartApp, small: Path
) -> None:
    client = await logged_in(await start_app(file_folder=small))
    statuses = [(await upload(client)).status_code for _ in range(10)]
    assert statuses == sorted(statuses)
    assert {201, 507} == set(statuses)
    assert os.statvfs(small).f_favail >= 990
    assert len(kept(small)) == statuses.count(201)


async def test_many_small_files_fill_an_account_too(start_app: StartApp, folder: Path) -> None:
    client = await logged_in(await start_app(file_folder=folder, files_per_account=3))
    several = [("files", ("a.txt", b"")) for _ in range(2)]
    assert (await client.post(SEVERAL, files=several)).status_code == 201
    assert code_of(await client.post(SEVERAL, files=several)) == (409, "too_many_files")
    assert len(kept(folder)) == 2
    last = (await upload(client)).json()["id"]
    body, headers = form((TEXT, b""))
    read: list[bytes] = []

    async def pieces() -> AsyncIterator[bytes]:
        read.append(body)
        yield body

    refused = await client.post(UPLOAD, content=pieces(), headers=headers)
    assert (code_of(refused), read) == ((409, "too_many_files"), [])
    assert (await client.delete(f"{FILES}/{last}")).status_code == 204
    assert (await upload(client)).status_code == 201


async def test_uploads_at_once_never_exceed_the_number_of_files(
    start_app: StartApp, folder: Path
) -> None:
    client = await logged_in(await start_app(file_folder=folder, files_per_account=2))
    begun = asyncio.Barrier(3)
    body, headers = form((TEXT, b"x" * 300))

    async def bring() -> int:
        content = in_pieces(body, begun.wait)
        return (await client.post(UPLOAD, content=content, headers=headers)).status_code

    assert sorted(await asyncio.gather(*(bring() for _ in range(3)))) == [201, 201, 409]
    assert len(kept(folder)) == 2


async def test_the_reserve_is_kept_while_a_body_of_unknown_length_comes(
    start_app: StartApp, small: Path
) -> None:
    client = await logged_in(await start_app(file_folder=small, file_reserve=2 * MIB))
    body, headers = form((TEXT, b"x" * 3 * MIB))
    answer = await client.post(UPLOAD, content=in_pieces(body), headers=headers)
    assert code_of(answer) == (507, "storage_full")
    assert await is_empty(client, small)


@pytest.mark.parametrize("function", ["write", "fsync", "fchmod"])
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, (507, "storage_full")),
        (errno.EDQUOT, (507, "storage_full")),
        (errno.EIO, (503, "store_unavailable")),
        (errno.EROFS, (503, "store_unavailable")),
    ],
)
async def test_whatever_the_system_refuses(
    client: httpx.AsyncClient,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    number: int,
    expected: tuple[int, str],
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(f"app.file_stores.half.os.{function}", refuse)
        answer = await upload(client)
    assert code_of(answer) == expected
    assert await is_empty(client, folder)


async def test_the_second_of_two_files_that_cannot_be_published_takes_the_first_with_it(
    client: httpx.AsyncClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[Path] = []
    move = LocalHalf.move

    def once(self: LocalHalf, target: Path) -> None:
        if moved:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        moved.append(target)
        move(self, target)

    monkeypatch.setattr(LocalHalf, "move", once)
    both = [("files", ("a.txt", b"one")), ("files", ("b.txt", b"two"))]
    assert code_of(await client.post(SEVERAL, files=both)) == (507, "storage_full")
    assert moved
    assert await is_empty(client, folder)


async def test_many_uploads_at_once_never_exceed_the_quota(
    start_app: StartApp, folder: Path
) -> None:
    client = await logged_in(
        await start_app(file_folder=folder, file_quota=1000, uploads_per_account=8)
    )
    begun = asyncio.Barrier(8)
    body, headers = form((TEXT, b"x" * 300))

    async def bring() -> int:
        # All have looked at what is used before the first one is recorded.
        content = in_pieces(body, begun.wait)
        return (await client.post(UPLOAD, content=content, headers=headers)).status_code

    statuses = sorted(await asyncio.gather(*(bring() for _ in range(8))))
    assert statuses == [201] * 3 + [409] * 5
    assert (await client.get(FILES)).json()["used"] == 900
    assert len(kept(folder)) == 3


@pytest.mark.parametrize("announced", [True, False])
async def test_a_full_account_is_told_so(
    start_app: StartApp, folder: Path, announced: bool
) -> None:
    client = await logged_in(await start_app(file_folder=folder, file_quota=100_000))
    first = (await upload(client, content=b"x" * 90_000)).json()["id"]
    body, headers = form((TEXT, b"x" * 50_000))
    content: Any = body if announced else in_pieces(body, size=1000)
    answer = await client.post(UPLOAD, content=content, headers=headers)
    assert code_of(answer) == (409, "quota_exceeded")
    assert len(kept(folder)) == 1
    assert (await client.delete(f"{FILES}/{first}")).status_code == 204
    assert (await upload(client, content=b"x" * 100_000)).status_code == 201


@pytest.mark.parametrize("cut", [1, 30, 70, 90, 1_000, 1_500_000])
async def test_a_form_that_ends_early_leaves_nothing(
    client: httpx.AsyncClient, folder: Path, cut: int
) -> None:
    body, headers = form((TEXT, b"x" * 2 * MIB))
    answer = await client.post(UPLOAD, content=body[:cut], headers=headers)
    assert code_of(answer) == (400, "malformed_form")
    assert await is_empty(client, folder)


async def test_a_cancelled_request_leaves_nothing(client: httpx.AsyncClient, folder: Path) -> None:
    body, headers = form((TEXT, b"x" * 3 * MIB))
    waits = asyncio.Event()

    async def wait_for_ever() -> None:
        waits.set()
        await asyncio.Event().wait()

    content = in_pieces(body, wait_for_ever)
    task = asyncio.create_task(client.post(UPLOAD, content=content, headers=headers))
    await waits.wait()
    assert len(kept(folder)) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await is_empty(client, folder)


async def test_a_row_that_is_refused_takes_its_file_with_it(
    client: httpx.AsyncClient, folder: Path, sql: RunSql
) -> None:
    body, headers = form((TEXT, b"Hello."))

    async def close_account() -> None:
        await asyncio.to_thread(sql, "UPDATE users SET is_active = false")

    answer = await client.post(UPLOAD, content=in_pieces(body, close_account), headers=headers)
    assert code_of(answer) == (401, "not_authenticated")
    assert kept(folder) == []


async def test_a_commit_of_which_nobody_knows_leaves_its_file_to_the_sweep(
    client: httpx.AsyncClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = Database.writing

    @contextlib.asynccontextmanager
    async def torn(self: Database) -> AsyncIterator[Any]:
        async with writing(self) as session:
            yield session
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(Database, "writing", torn)
        assert (await upload(client)).status_code == 500
    # It was committed after all.
    (file,) = (await client.get(FILES)).json()["files"]
    assert (await client.get(f"{FILES}/{file['id']}")).content == b"Hello."
    await files.sweep(resources_of(client), settled_after=-5)
    assert len(kept(folder)) == 1


async def test_the_sweep_takes_what_nobody_can_reach_and_nothing_else(
    client: httpx.AsyncClient, folder: Path, sql: RunSql
) -> None:
    await upload(client)
    for name in (b"orphan", b"orphan too"):
        store = resources_of(client).files
        async with store.begin(new_name()) as half:
            await half.write(name)
            await half.finish()
            await half.publish()
    (folder / "incoming" / "left by one that was killed").write_bytes(b"half")
    (folder / "published" / "ab").mkdir(exist_ok=True)
    (folder / "published" / "ab" / "README").write_text("not ours")
    resources = resources_of(client)
    await files.sweep(resources)
    assert len(kept(folder)) == 5
    await files.sweep(resources, half_after=-5, settled_after=-5)
    assert len(kept(folder)) == 2
    assert (await client.get(FILES)).json()["total"] == 1
    # An account that is taken away takes its files with it.
    await asyncio.to_thread(sql, "DELETE FROM users")
    await files.sweep(resources, settled_after=-5)
    assert [path.name for path in kept(folder)] == ["README"]


async def test_the_sweep_spares_an_upload_that_goes_on(
    client: httpx.AsyncClient, folder: Path
) -> None:
    body, headers = form((TEXT, b"x" * 2 * MIB))

    async def sweep() -> None:
        # By another process, which has a store of its own.
        other = LocalStore(folder, 0)
        keeper = dataclasses.replace(resources_of(client), files=other)
        await files.sweep(keeper, half_after=-5, settled_after=-5)
        other.close()

    answer = await client.post(UPLOAD, content=in_pieces(body, sweep), headers=headers)
    assert answer.status_code == 201
    assert len(kept(folder)) == 1


async def publish_orphans(client: httpx.AsyncClient, count: int) -> None:
    store = resources_of(client).files
    for _ in range(count):
        async with store.begin(new_name()) as half:
            await half.write(b"of somebody else")
            await half.finish()
            await half.publish()


async def test_the_sweep_spares_what_looks_like_the_files_of_somebody_else(
    client: httpx.AsyncClient, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    several = [("files", ("a.txt", b"Hello.")) for _ in range(10)]
    for _ in range(2):
        assert (await client.post(SEVERAL, files=several)).status_code == 201
    await publish_orphans(client, 21)
    await files.sweep(resources_of(client), settled_after=-5)
    assert len(kept(folder)) == 41
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "files.unknown" in line]
    assert "21 of 41 files have no record" in line
    assert "APP_S3_PREFIX" in line
    # Where most are known, the others are what crashes have left.
    await client.post(SEVERAL, files=several)
    await files.sweep(resources_of(client), settled_after=-5)
    assert len(kept(folder)) == 30


async def test_a_few_files_without_a_record_are_nobodys(
    client: httpx.AsyncClient, folder: Path
) -> None:
    await upload(client)
    await publish_orphans(client, 20)
    await files.sweep(resources_of(client), settled_after=-5)
    assert len(kept(folder)) == 1


async def test_a_sweep_leaves_the_rest_to_the_next_one(
    client: httpx.AsyncClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.files.jobs._MOST", 4)
    await upload(client)
    await publish_orphans(client, 6)
    for left in (3, 1, 1):
        await files.sweep(resources_of(client), settled_after=-5)
        assert len(kept(folder)) == left


async def test_the_sweep_goes_on_where_it_may_not_take_one_half_away(
    client: httpx.AsyncClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = [folder / "incoming" / name for name in ("one", "stuck", "two")]
    await upload(client)
    await publish_orphans(client, 1)
    for half in halves:
        half.write_bytes(b"half")
    unlink = Path.unlink

    def refuse_one(self: Path, *, missing_ok: bool = False) -> None:
        if self.name == "stuck":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse_one)
    await files.sweep(resources_of(client), half_after=-5, settled_after=-5)
    assert [half.exists() for half in halves] == [False, True, False]
    assert len(kept(folder)) == 2


def test_a_half_is_locked_as_a_network_file_system_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def of_nfs(file: Any, operation: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        lock(file, operation)

    monkeypatch.setattr("app.file_stores.half.fcntl.flock", of_nfs)
    half = tmp_path / "half"
    half.write_bytes(b"half")
    assert remove_half(half)
    assert not half.exists()
    # Its writer may just have ended.
    assert not remove_half(half)


async def test_the_clock_asks_for_the_sweep(client: httpx.AsyncClient, folder: Path) -> None:
    resources = resources_of(client)
    half = folder / "incoming" / "left by one that was killed"
    await upload(client)
    half.write_bytes(b"half")
    os.utime(half, (0, 0))
    settings = resources.settings
    worker = JobResources(settings, resources.database, Mailer(settings), resources.files)
    await handlers["files.sweep"](worker)
    assert not half.exists()
    assert len(kept(folder)) == 1
    await handlers["files.sweep"](dataclasses.replace(worker, files=None))
