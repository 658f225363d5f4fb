"""Files in a bucket of an S3-compatible store, which is a server of its own."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from app import files
from app.file_stores import new_name, open_store
from tests.app.conftest import SECRET, RunSql, StartApp
from tests.app.s3_server import S3Server, running_s3
from tests.app.test_files import (
    FILES,
    PNG,
    SEVERAL,
    UPLOAD,
    code_of,
    comes_as_the_one_that_was_asked_for,
    form,
    logged_in,
    upload,
)
from tests.processes import forget_peak, peak_memory
from tests.services import ROOT

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One store for all tests here."""
    with running_s3(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture
def bucket(server: S3Server) -> S3Server:
    """The store with nothing in it."""
    server.empty()
    return server


@pytest.fixture
async def client(start_app: StartApp, bucket: S3Server) -> httpx.AsyncClient:
    """An instance that keeps files in the bucket, whose caller is logged in."""
    return await logged_in(await start_app(file_redirect="/.files/", **bucket.settings))


async def test_a_small_file_and_a_large_one(client: httpx.AsyncClient, bucket: S3Server) -> None:
    for content in (b"\x1f\x8b\x08", b"\x1f\x8b\x08" + os.urandom(20 * MIB)):
        answer = await upload(client, "a.gz", content)
        assert answer.status_code == 201, answer.text
        file = answer.json()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        answer = await client.get(f"{FILES}/{file['id']}")
        assert answer.content == content
        assert "x-accel-redirect" not in answer.headers
        headers = {"Range": f"bytes=1-{5 * MIB}"}
        part = await client.get(f"{FILES}/{file['id']}", headers=headers)
        assert (part.status_code, part.content) == (206, content[1 : 5 * MIB + 1])
    assert len(bucket.keys()) == 2
    assert all(key.startswith("published/") and "a.gz" not in key for key in bucket.keys())  # noqa: SIM118
    assert bucket.uploads() == 0


async def test_an_object_is_sent_if_it_is_the_one_that_was_asked_for(
    client: httpx.AsyncClient,
) -> None:
    await comes_as_the_one_that_was_asked_for(client)


async def test_an_empty_file(client: httpx.AsyncClient, bucket: S3Server) -> None:
    file = (await upload(client, content=b"")).json()
    answer = await client.get(f"{FILES}/{file['id']}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert len(bucket.keys()) == 1


async def test_an_object_that_is_lost_is_said_to_be(
    client: httpx.AsyncClient, bucket: S3Server
) -> None:
    file_id = (await upload(client)).json()["id"]
    (key,) = bucket.keys()
    resources: Any = client.application.state.resources  # type: ignore[attr-defined]
    await resources.files.remove([key.rpartition("/")[2]])
    assert bucket.keys() == []
    assert code_of(await client.get(f"{FILES}/{file_id}")) == (404, "file_lost")


async def test_a_deleted_file_is_gone_from_the_bucket(
    client: httpx.AsyncClient, bucket: S3Server
) -> None:
    file_id = (await upload(client)).json()["id"]
    assert (await client.delete(f"{FILES}/{file_id}")).status_code == 204
    assert bucket.keys() == []


async def test_several_large_uploads_at_once_take_little_memory(
    start_app: StartApp, bucket: S3Server
) -> None:
    client = await logged_in(await start_app(**{**bucket.settings, "s3_timeout": 60}))
    block = b"x" * MIB

    async def pieces() -> AsyncIterator[bytes]:
        body, _ = form(('name="file"; filename="a.txt"', b""))
        head, end = body[: body.rindex(b"\r\n--line--")], b"\r\n--line--\r\n"
        for piece in (head, *(block for _ in range(100)), end):
            yield piece

    _, headers = form()
    await upload(client)
    forget_peak()
    before = peak_memory()
    forget_peak()
    answers = await asyncio.gather(
        *(client.post(UPLOAD, content=pieces(), headers=headers) for _ in range(3))
    )
    assert [answer.json().get("size") for answer in answers] == [100 * MIB] * 3
    assert peak_memory() - before < 96 * MIB


@pytest.mark.parametrize("size", [10, 20 * MIB])
async def test_what_is_refused_leaves_nothing(
    client: httpx.AsyncClient, bucket: S3Server, size: int
) -> None:
    content = b"x" * size + b"\xff"
    assert code_of(await upload(client, content=content)) == (400, "file_not_allowed")
    several = [("files", ("a.png", PNG)), ("files", ("b.txt", content))]
    assert code_of(await client.post(SEVERAL, files=several)) == (400, "file_not_allowed")
    assert (bucket.keys(), bucket.uploads()) == ([], 0)


async def test_an_upload_that_is_cut_off_leaves_nothing(
    client: httpx.AsyncClient, bucket: S3Server
) -> None:
    body, headers = form(('name="file"; filename="a.txt"', b"x" * 20 * MIB), end=False)
    answer = await client.post(UPLOAD, content=body, headers=headers)
    assert code_of(answer) == (400, "malformed_form")
    assert (bucket.keys(), bucket.uploads()) == ([], 0)


async def test_a_request_that_is_cancelled_leaves_nothing(
    client: httpx.AsyncClient, bucket: S3Server
) -> None:
    body, headers = form(('name="file"; filename="a.txt"', b"x" * 20 * MIB))
    waits = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:-1000]
        waits.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(client.post(UPLOAD, content=pieces(), headers=headers))
    await waits.wait()
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.5)
    assert (bucket.keys(), bucket.uploads()) == ([], 0)


async def test_a_row_that_is_refused_leaves_nothing(
    client: httpx.AsyncClient, bucket: S3Server, sql: RunSql
) -> None:
    body, headers = form(('name="file"; filename="a.txt"', b"Hello."))

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:20]
        await asyncio.to_thread(sql, "UPDATE users SET is_active = false")
        yield body[20:]

    answer = await client.post(UPLOAD, content=pieces(), headers=headers)
    assert answer.status_code == 401
    assert bucket.keys() == []


async def test_what_has_no_row_is_swept(client: httpx.AsyncClient, bucket: S3Server) -> None:
    resources: Any = client.application.state.resources  # type: ignore[attr-defined]
    kept = (await upload(client)).json()["id"]
    async with resources.files.begin(new_name()) as half:
        await half.write(b"nobody's")
        await half.finish()
        await half.publish()
    assert len(bucket.keys()) == 2
    await files.sweep(resources)
    assert len(bucket.keys()) == 2
    await files.sweep(resources, settled_after=-5)
    assert len(bucket.keys()) == 1
    assert (await client.get(f"{FILES}/{kept}")).content == b"Hello."


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        # By default an upload may take 45 hours.
        ({}, 2 * 10 * 1024 * MIB / 65_536),
        ({"upload_bytes_per_second": 16_384.0}, 2 * 10 * 1024 * MIB / 16_384),
        ({"files_per_upload": 1, "file_max_size": MIB}, 86_400),
    ],
)
def test_no_object_of_an_upload_that_goes_on_is_swept(
    settings_with: Any, changes: dict[str, Any], seconds: float
) -> None:
    store = open_store(settings_with(file_store="s3", s3_bucket="files", **changes))
    assert store
    assert store.settles_after == seconds


async def test_installations_share_a_bucket_by_their_prefixes(
    start_app: StartApp, bucket: S3Server
) -> None:
    one = await logged_in(await start_app(**bucket.settings, s3_prefix="harbour-production"))
    file_id = (await upload(one)).json()["id"]
    kept = bucket.keys()
    assert kept[0].startswith("harbour-production/published/")
    for other in ("harbour-staging", "harbour-production/2", ""):
        # It has its own database; to this one the file is as unknown as its own orphan.
        stranger = open_store(
            one.application.state.settings.model_copy(  # type: ignore[attr-defined]
                update={"s3_prefix": other}
            )
        )
        assert stranger
        name = new_name()
        async with stranger.begin(name) as half:
            await half.write(b"nobody's")
            await half.finish()
            await half.publish()
        assert [names async for names in stranger.list_older(-5)] == [[name]]
        await stranger.remove([name])
        assert bucket.keys() == kept
    assert (await one.get(f"{FILES}/{file_id}")).content == b"Hello."


async def test_a_store_that_does_not_answer_is_an_outage(
    start_app: StartApp, bucket: S3Server
) -> None:
    client = await logged_in(await start_app(**{**bucket.settings, "s3_timeout": 0.5}))
    file_id = (await upload(client)).json()["id"]
    with bucket.stopped():
        assert code_of(await client.get(f"{FILES}/{file_id}")) == (503, "store_unavailable")
        assert code_of(await upload(client)) == (503, "store_unavailable")
        # For its owner it is gone; the sweep takes care of the rest.
        assert (await client.delete(f"{FILES}/{file_id}")).status_code == 204
    assert (await client.get(FILES)).json()["total"] == 0


@pytest.mark.parametrize("wrong", [{"s3_bucket": "another"}, {"s3_endpoint": "http://127.0.0.1:9"}])
async def test_a_bucket_that_is_not_there_is_an_outage(
    start_app: StartApp, bucket: S3Server, wrong: dict[str, Any]
) -> None:
    client = await logged_in(await start_app(**{**bucket.settings, "s3_timeout": 1, **wrong}))
    assert code_of(await upload(client)) == (503, "store_unavailable")


async def test_the_key_is_in_no_log_line(
    start_app: StartApp, bucket: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        **bucket.settings,
        "s3_secret_key": "never-in-a-log",
        "s3_endpoint": "http://127.0.0.1:9",
    }
    client = await logged_in(await start_app(**settings, log_level="DEBUG"))
    await upload(client)
    written = capsys.readouterr()
    assert "files.store_failed" in written.err
    assert "never-in-a-log" not in written.err + written.out


# As the preflight does it, which ends right after it has asked.
_PROGRAM = """
import asyncio
from app.file_stores import StoreDownError, open_store
from app.settings import Settings, load_settings

async def ask():
    try:
        await open_store(load_settings(Settings)).check()
    except StoreDownError:
        print("down")

asyncio.run(ask())
"""


async def test_a_process_ends_well_right_after_it_has_asked_the_store(database_url: str) -> None:
    variables = {
        "PATH": os.environ["PATH"],
        "APP_DATABASE_URL": database_url,
        "APP_TOKEN_SECRET": SECRET,
        "APP_FILE_STORE": "s3",
        "APP_S3_ENDPOINT": "http://127.0.0.1:1",
        "APP_S3_BUCKET": "files",
        "APP_S3_ACCESS_KEY": "a-key",
        "APP_S3_SECRET_KEY": "a-secret",
    }

    async def end_of_one(turn: asyncio.Semaphore) -> tuple[int | None, bytes]:
        async with turn:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _PROGRAM),
                cwd=ROOT,
                env=variables,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            said, _ = await process.communicate()
        return process.returncode, said.splitlines()[-1]

    turn = asyncio.Semaphore(3)
    ends = await asyncio.gather(*(end_of_one(turn) for _ in range(12)))
    assert set(ends) == {(0, b"down")}


def test_without_files_there_is_no_store(settings_with: Any) -> None:
    assert open_store(settings_with(file_store="none")) is None
