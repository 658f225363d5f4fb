"""Files: uploaded whole or not at all, given back to their owners alone."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import files
from app.settings import Settings
from tests.app.conftest import Login, RunSql, StartApp, log_in, register

UPLOAD, SEVERAL, FILES = "/api/v1/files/upload", "/api/v1/files/upload-multiple", "/api/v1/files"
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 20
GOOD = {
    "a.png": (PNG, "image/png"),
    "a.JPG": (b"\xff\xd8\xff\xe0 and so on", "image/jpeg"),
    "a.jpeg": (b"\xff\xd8\xff\xe1", "image/jpeg"),
    "a.gif": (b"GIF89a and so on", "image/gif"),
    "a.webp": (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
    "a.pdf": (b"%PDF-1.7\n", "application/pdf"),
    "a.zip": (b"PK\x03\x04 and so on", "application/zip"),
    "a.gz": (b"\x1f\x8b\x08 and so on", "application/gzip"),
    "a.mp4": (b"\0\0\0\x18ftypmp42", "video/mp4"),
    "a.txt": ("Grüße\n".encode(), "text/plain"),
    "a.csv": (b"a,b\r\n1,2\r\n", "text/csv"),
    "a.json": (b'{"a": 1}', "application/json"),
    "empty.txt": (b"", "text/plain"),
}
BAD = {
    "page.html": b"<html></html>",
    "drawing.svg": b"<svg/>",
    "program.exe": b"MZ",
    "noend": b"text",
    ".png": PNG,
    "": b"text",
    "image.png.html": PNG,
    "a.png": b"<html></html>",
    "b.png": b"",
    "a.gif": PNG,
    "a.webp": b"RIFF\x10\0\0\0WAVE",
    "a.txt": b"\xff\xfe",
    "nul.txt": b"a\0b",
    "cut.txt": "ü".encode()[:1],
    "a.csv": PNG,
}


@pytest.fixture
async def ann(login: Login) -> dict[str, str]:
    """The header of somebody who has files."""
    return await login("ann")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of its own for the files of one test."""
    made = tmp_path / "files"
    made.mkdir()
    return made


@pytest.fixture
async def alone(start_app: StartApp, folder: Path) -> httpx.AsyncClient:
    """An instance with a folder of its own, whose caller is logged in."""
    return await logged_in(await start_app(file_folder=folder))


async def logged_in(client: httpx.AsyncClient, username: str = "ann") -> httpx.AsyncClient:
    await register(client, username)
    token = (await log_in(client, username)).json()["access_token"]
    client.headers["Authorization"] = f"Bearer {token}"
    return client


def kept(folder: Path) -> list[Path]:
    """Every file in the folder, half or whole."""
    return [path for path in folder.rglob("*") if path.is_file()]


async def upload(
    client: httpx.AsyncClient, name: str = "a.txt", content: bytes = b"Hello.", **options: Any
) -> httpx.Response:
    return await client.post(UPLOAD, files={"file": (name, content)}, **options)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def form(*parts: tuple[str, bytes], end: bool = True) -> tuple[bytes, dict[str, str]]:
    """Return a form as it is sent, part by part as it is said."""
    body = b"".join(
        b"--line\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data + b"\r\n"
        for head, data in parts
    )
    headers = {"Content-Type": "multipart/form-data; boundary=line"}
    return body + (b"--line--\r\n" if end else b""), headers


@pytest.mark.parametrize("name", GOOD)
async def test_a_file_comes_back_as_it_was(alone: httpx.AsyncClient, name: str) -> None:
    content, kind = GOOD[name]
    answer = await upload(alone, name, content)
    assert answer.status_code == 201, answer.text
    file = answer.json()
    told = {key: file[key] for key in ("filename", "size", "content_type", "sha256")}
    assert told == {
        "filename": name,
        "size": len(content),
        "content_type": kind,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    answer = await alone.get(f"{FILES}/{file['id']}")
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-type"].partition(";")[0] == kind
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"] == f'"{file["sha256"]}"'
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("name", BAD)
async def test_what_is_not_allowed_leaves_nothing(
    alone: httpx.AsyncClient, folder: Path, name: str
) -> None:
    body, headers = form((f'name="file"; filename="{name}"', BAD[name]))
    answer = await alone.post(UPLOAD, content=body, headers=headers)
    assert code_of(answer) == (400, "file_not_allowed")
    assert kept(folder) == []
    assert (await alone.get(FILES)).json()["total"] == 0


async def test_several_files_come_together_or_not_at_all(
    alone: httpx.AsyncClient, folder: Path
) -> None:
    both = [("files", ("a.txt", b"one")), ("files", ("b.png", PNG))]
    answer = await alone.post(SEVERAL, files=both)
    assert answer.status_code == 201
    assert answer.json()["uploaded"] == 2
    assert [file["filename"] for file in answer.json()["files"]] == ["a.txt", "b.png"]
    answer = await alone.post(SEVERAL, files=[*both, ("files", ("c.png", b"no image"))])
    assert code_of(answer) == (400, "file_not_allowed")
    assert len(kept(folder)) == 2
    listed = (await alone.get(FILES)).json()
    assert (listed["total"], listed["used"]) == (2, 3 + len(PNG))


async def test_the_list_is_the_caller_s_own_page_by_page(
    client: httpx.AsyncClient, login: Login
) -> None:
    ann, bob = await login("ann"), await login("bob")
    for number in range(3):
        await upload(client, f"{number}.txt", b"x" * number, headers=ann)
    await upload(client, headers=bob)
    page = (await client.get(f"{FILES}?skip=1&limit=1", headers=ann)).json()
    assert [file["filename"] for file in page["files"]] == ["1.txt"]
    told = {key: page[key] for key in ("total", "skip", "limit", "used", "quota")}
    assert told == {"total": 3, "skip": 1, "limit": 1, "used": 3, "quota": 5 * 1024**3}


async def test_files_of_others_are_not_there(client: httpx.AsyncClient, login: Login) -> None:
    ann, bob = await login("ann"), await login("bob", role="super_admin")
    file_id = (await upload(client, headers=ann)).json()["id"]
    for method in ("GET", "DELETE"):
        answer = await client.request(method, f"{FILES}/{file_id}", headers=bob)
        assert code_of(answer) == (404, "file_not_found")
    assert (await client.get(f"{FILES}/{file_id}", headers=ann)).content == b"Hello."


async def test_a_deleted_file_is_gone_from_the_store_too(
    alone: httpx.AsyncClient, folder: Path
) -> None:
    file_id = (await upload(alone)).json()["id"]
    assert len(kept(folder)) == 1
    assert (await alone.delete(f"{FILES}/{file_id}")).status_code == 204
    assert kept(folder) == []
    assert code_of(await alone.get(f"{FILES}/{file_id}")) == (404, "file_not_found")
    assert code_of(await alone.delete(f"{FILES}/{file_id}")) == (404, "file_not_found")


async def test_a_file_that_is_lost_is_said_to_be(alone: httpx.AsyncClient, folder: Path) -> None:
    file_id = (await upload(alone)).json()["id"]
    kept(folder)[0].unlink()
    assert code_of(await alone.get(f"{FILES}/{file_id}")) == (404, "file_lost")


async def test_nginx_is_told_where_a_file_is(start_app: StartApp, folder: Path) -> None:
    client = await logged_in(await start_app(file_folder=folder, file_redirect="/.files/"))
    file_id = (await upload(client, "Grüße.txt")).json()["id"]
    answer = await client.get(f"{FILES}/{file_id}", headers={"Range": "bytes=1-2"})
    assert (answer.status_code, answer.content) == (200, b"")
    (path,) = kept(folder)
    place = path.relative_to(folder / "published")
    assert answer.headers["x-accel-redirect"] == f"/.files/{place}"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"Gr__e.txt\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.txt"
    )


async def test_a_part_that_is_none_is_refused_before_nginx_sends_it(
    start_app: StartApp, folder: Path
) -> None:
    client = await logged_in(await start_app(file_folder=folder, file_redirect="/.files/"))
    file_id = (await upload(client)).json()["id"]
    answer = await client.get(f"{FILES}/{file_id}", headers={"Range": "bytes=6-"})
    assert code_of(answer) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */6"
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert not {"content-disposition", "x-accel-redirect"} & set(answer.headers)
    # What has become another file is sent whole.
    other = {"Range": "bytes=6-", "If-Range": '"other"'}
    assert "x-accel-redirect" in (await client.get(f"{FILES}/{file_id}", headers=other)).headers


async def comes_as_the_one_that_was_asked_for(client: httpx.AsyncClient) -> None:
    """A file whose tag is named comes whole or in part, and no other one does."""
    file = (await upload(client)).json()
    path, tag = f"{FILES}/{file['id']}", f'"{file["sha256"]}"'
    for named in (tag, f'"other", {tag}'):
        answer = await client.get(path, headers={"If-Match": named})
        assert (answer.status_code, answer.content) == (200, b"Hello.")
        assert answer.headers["content-disposition"] == 'attachment; filename="a.txt"'
        answer = await client.get(path, headers={"If-Match": named, "Range": "bytes=1-2"})
        assert (answer.status_code, answer.content) == (206, b"el")
    for named in ('"other"', "other", "", file["sha256"]):
        answer = await client.get(path, headers={"If-Match": named, "Range": "bytes=1-2"})
        assert code_of(answer) == (412, "precondition_failed")
        assert "content-disposition" not in answer.headers
    assert (await client.get(path, headers={"If-Match": "*"})).status_code == 200
    both = {"If-Match": tag, "If-None-Match": tag}
    assert (await client.get(path, headers=both)).status_code == 304


@pytest.mark.parametrize("redirect", ["", "/.files/"])
async def test_a_file_is_sent_if_it_is_the_one_that_was_asked_for(
    start_app: StartApp, folder: Path, redirect: str
) -> None:
    client = await logged_in(await start_app(file_folder=folder, file_redirect=redirect))
    await comes_as_the_one_that_was_asked_for(client)


async def test_a_client_that_has_a_file_does_not_get_it_again(alone: httpx.AsyncClient) -> None:
    file = (await upload(alone)).json()
    for known in (f'"{file["sha256"]}"', f'W/"{file["sha256"]}"', "*"):
        answer = await alone.get(f"{FILES}/{file['id']}", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "status", "content", "told"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=3-5", 206, b"345", "bytes 3-5/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=7-99", 206, b"789", "bytes 7-9/10"),
        ("bytes=-4", 206, b"6789", "bytes 6-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=5-3", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
async def test_a_part_of_a_file(
    alone: httpx.AsyncClient, asked: str, status: int, content: bytes | None, told: str | None
) -> None:
    file = (await upload(alone, content=b"0123456789")).json()
    answer = await alone.get(f"{FILES}/{file['id']}", headers={"Range": asked})
    assert answer.status_code == status
    assert answer.headers.get("content-range") == told
    if content is None:
        assert answer.json()["error"]["code"] == "range_not_satisfiable"
    else:
        assert answer.content == content
        assert answer.headers["content-length"] == str(len(content))
    for tag, expected in ((f'"{file["sha256"]}"', status), ('"other"', 200)):
        headers = {"Range": asked, "If-Range": tag}
        assert (await alone.get(f"{FILES}/{file['id']}", headers=headers)).status_code == expected


async def test_a_large_file_is_read_in_pieces(alone: httpx.AsyncClient) -> None:
    content = os.urandom(9 * 1024 * 1024 + 1)
    file = (await upload(alone, "a.gz", b"\x1f\x8b\x08" + content)).json()
    whole = await alone.get(f"{FILES}/{file['id']}")
    assert hashlib.sha256(whole.content).hexdigest() == file["sha256"]
    part = await alone.get(f"{FILES}/{file['id']}", headers={"Range": "bytes=3-9437187"})
    assert part.content == content[: 9 * 1024 * 1024 + 1]


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([], 422, "validation_error"),
        ([('name="other"; filename="a.txt"', b"x")], 422, "validation_error"),
        ([('name="file"', b"x")], 422, "validation_error"),
        ([('name="file"; filename="a.txt"', b"x")] * 2, 422, "validation_error"),
        ([('filename="a.txt"', b"x")], 400, "malformed_form"),
        ([('name="file"; filename="' + "a" * 5000 + '.txt"', b"x")], 400, "malformed_form"),
        ([('name="file"; filename="a.txt"\r\n' + "X: y\r\n" * 9 + "Z: z", b"x")], 400, None),
    ],
)
async def test_a_form_must_be_as_it_should(
    alone: httpx.AsyncClient, folder: Path, parts: Any, status: int, code: str | None
) -> None:
    body, headers = form(*parts)
    answer = await alone.post(UPLOAD, content=body, headers=headers)
    assert code_of(answer) == (status, code or "malformed_form")
    assert kept(folder) == []


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=line",
        f"multipart/form-data; boundary={'x' * 71}",
    ],
)
async def test_what_is_no_form_with_files_is_not_read(alone: httpx.AsyncClient, kind: str) -> None:
    answer = await alone.post(UPLOAD, content=b"{}", headers={"Content-Type": kind})
    assert code_of(answer) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("names", "kept_as"),
    [
        # As .NET writes it.
        (
            "filename=\"=?utf-8?B?R3LDvMOfZS50eHQ=?=\"; filename*=utf-8''Gr%C3%BC%C3%9Fe.txt",
            "Grüße.txt",
        ),
        ("filename*=UTF-8'de'Gr%c3%bc%c3%9fe.txt", "Grüße.txt"),
        ("filename*=UTF-8''..%2F..%2Fetc%2Fpasswd.txt; filename=a.txt", "passwd.txt"),
        ("Filename* = utf-8''b.txt ; size=3", "b.txt"),
        # What cannot be read, or is a part of something else, does not count.
        ("filename=a.txt; filename*=utf-8''%FF.txt", "a.txt"),
        ("filename=a.txt; filename*=utf-8''%4.txt", "a.txt"),
        ("filename=a.txt; filename*=utf-16''b.txt", "a.txt"),
        ("filename=a.txt; filename*=b.txt", "a.txt"),
        ("filename=\"a; filename*=utf-8''b.csv; .txt\"", "a; filename*=utf-8''b.csv; .txt"),
    ],
)
async def test_a_name_may_come_in_two_ways(
    alone: httpx.AsyncClient, names: str, kept_as: str
) -> None:
    body, headers = form((f'name="file"; {names}', b"x"))
    answer = await alone.post(UPLOAD, content=body, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["filename"] == kept_as


async def test_a_name_that_cannot_be_read_is_none(alone: httpx.AsyncClient) -> None:
    body, headers = form(("name=\"file\"; filename*=utf-8''%FF.txt", b"x"))
    answer = await alone.post(UPLOAD, content=body, headers=headers)
    assert code_of(answer) == (422, "validation_error")


async def test_more_files_than_one_request_may_bring(start_app: StartApp, folder: Path) -> None:
    client = await logged_in(await start_app(file_folder=folder, files_per_upload=2))
    three = [("files", (f"{number}.txt", b"x")) for number in range(3)]
    assert code_of(await client.post(SEVERAL, files=three)) == (422, "validation_error")
    assert kept(folder) == []
    assert (await client.post(SEVERAL, files=three[:2])).status_code == 201


@pytest.mark.parametrize("announced", [True, False])
async def test_a_file_that_is_too_large(start_app: StartApp, folder: Path, announced: bool) -> None:
    client = await logged_in(await start_app(file_folder=folder, file_max_size=1000))
    assert (await upload(client, content=b"x" * 1000)).status_code == 201
    for size in (1001, 100_000):
        body, headers = form(('name="file"; filename="a.txt"', b"x" * size))

        async def pieces(whole: bytes = body) -> AsyncIterator[bytes]:
            for start in range(0, len(whole), 500):
                yield whole[start : start + 500]

        content: Any = body if announced else pieces()
        answer = await client.post(UPLOAD, content=content, headers=headers)
        assert code_of(answer) == (413, "file_too_large")
        assert len(kept(folder)) == 1


async def test_a_body_may_be_large_for_uploads_alone(start_app: StartApp, folder: Path) -> None:
    client = await logged_in(await start_app(file_folder=folder, max_body_size=2000))
    assert (await upload(client, content=b"x" * 5000)).status_code == 201
    answer = await client.post("/api/v1/items", json={"title": "x" * 5000, "price": "1"})
    assert code_of(answer) == (413, "payload_too_large")


async def test_nobody_sends_who_may_not(client: httpx.AsyncClient) -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"x")
        yield b"x"

    headers = {"Content-Type": "multipart/form-data; boundary=line"}
    for path in (UPLOAD, SEVERAL):
        answer = await client.post(path, content=body(), headers=headers)
        assert (code_of(answer), read) == ((401, "not_authenticated"), [])


async def test_uploads_have_a_limit_of_their_own(start_app: StartApp, folder: Path) -> None:
    client = await logged_in(await start_app(file_folder=folder, limit_upload="2/minute"))
    assert (await upload(client)).status_code == 201
    assert (await client.post(SEVERAL, files={"files": ("a.txt", b"x")})).status_code == 201
    assert code_of(await upload(client)) == (429, "rate_limited")
    assert (await client.get(FILES)).status_code == 200


@pytest.mark.parametrize("path", [UPLOAD, SEVERAL])
async def test_an_installation_without_files(start_app: StartApp, path: str) -> None:
    client = await logged_in(await start_app(file_store="none", file_folder=None))
    field = "file" if path == UPLOAD else "files"
    for answer in (
        await client.post(path, files={field: ("a.txt", b"x")}),
        await client.get(FILES),
        await client.get(f"{FILES}/1"),
        await client.delete(f"{FILES}/1"),
    ):
        assert code_of(answer) == (404, "files_off")


async def test_the_group_may_read_what_is_published_and_nobody_what_is_not(
    alone: httpx.AsyncClient, folder: Path
) -> None:
    # As the role makes it; the group of Nginx is another than that of the service.
    group = 65534 if os.geteuid() == 0 else os.getgid()
    os.chown(folder, -1, group)
    os.chmod(folder, 0o2750)  # noqa: PTH101
    before = os.umask(0o077)
    try:
        assert (await upload(alone)).status_code == 201
    finally:
        os.umask(before)
    (path,) = kept(folder)
    found = {one: one.stat() for one in (path, path.parent, folder / "published")}
    assert {one.st_gid for one in found.values()} == {group}
    assert [oct(one.st_mode & 0o777) for one in found.values()] == ["0o640", "0o750", "0o750"]
    assert oct((folder / "incoming").stat().st_mode & 0o777) == "0o700"
    assert "a.txt" not in str(path)


async def test_a_missing_folder_is_an_outage_and_not_made(
    start_app: StartApp, tmp_path: Path
) -> None:
    client = await logged_in(await start_app(file_folder=tmp_path / "unmounted"))
    assert code_of(await upload(client)) == (503, "store_unavailable")
    assert not (tmp_path / "unmounted").exists()


async def test_an_account_closed_meanwhile_gets_no_file(
    alone: httpx.AsyncClient, folder: Path, sql: RunSql
) -> None:
    body, headers = form(('name="file"; filename="a.txt"', b"Hello."))

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:20]
        await asyncio.to_thread(sql, "UPDATE users SET is_active = false")
        yield body[20:]

    answer = await alone.post(UPLOAD, content=pieces(), headers=headers)
    assert code_of(answer) == (401, "not_authenticated")
    assert kept(folder) == []


async def test_the_service_publishes_what_it_has_made(
    client: httpx.AsyncClient, ann: dict[str, str]
) -> None:
    async def lines() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d,x\n" % number

    resources = client.application.state.resources  # type: ignore[attr-defined]
    async with resources.database.writing() as session:
        file = await files.publish(
            resources,
            session,
            owner_id=1,
            filename="report.csv",
            content_type="text/csv",
            chunks=lines(),
        )
    content = b"0,x\n1,x\n2,x\n"
    assert (file.size, file.sha256) == (12, hashlib.sha256(content).hexdigest())
    answer = await client.get(f"{FILES}/{file.id}", headers=ann)
    assert (answer.content, answer.headers["content-type"].partition(";")[0]) == (
        content,
        "text/csv",
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"file_folder": None}, "APP_FILE_FOLDER"),
        ({"file_store": "s3", "file_folder": None}, "APP_S3_BUCKET"),
        ({"file_store": "s3", "s3_bucket": "b", "s3_access_key": "k"}, "app_s3_secret_key"),
        ({"file_redirect": "files"}, "slash"),
        ({"s3_endpoint": "store.example"}, "https://"),
    ],
)
def test_settings_that_cannot_be(
    settings_with: Callable[..., Settings], changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        settings_with(**changes)
