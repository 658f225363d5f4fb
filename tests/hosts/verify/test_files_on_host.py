"""Files through Nginx and TLS, on a real disk: taken as they come, and sent by Nginx."""

import asyncio
import hashlib
import json
import os
import re
import secrets
import shlex
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.hosts.conftest import PASSWORD
from tests.hosts.machine import Machine
from tests.hosts.operator import Operator
from tests.hosts.repository import Repository

FILES = "/api/v1/files"
UPLOAD = f"{FILES}/upload"
MIB = 1024 * 1024
BOUNDARY = "slipway-test"
SWEEP = """
import asyncio
from app import files
from app.db import Database
from app.file_stores import open_store
from app.jobs.handlers import JobResources
from app.mail import Mailer
from app.settings import Settings, load_settings

async def sweep():
    settings = load_settings(Settings)
    resources = JobResources(settings, Database(settings), Mailer(settings), open_store(settings))
    await files.sweep(resources, 0, 0)
    await resources.close()

asyncio.run(sweep())
"""


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def picture(size: int) -> bytes:
    """What begins as a picture; no two are the same."""
    return b"\x89PNG\r\n\x1a\n" + os.urandom(size - 8)


def upload(
    client: httpx.Client, token: str, content: bytes, name: str = "Köln.png"
) -> httpx.Response:
    return client.post(UPLOAD, files={"file": (name, content)}, headers=bearer(token), timeout=60)


def folder(machine: Machine) -> str:
    return f"/srv/{machine.app}/data/files"


def entries(machine: Machine, of: str) -> set[str]:
    """The files below a folder of files."""
    return set(machine.run(f"find {folder(machine)}/{of} -type f").stdout.split())


def test_a_file_comes_back_as_it_was_whole_and_in_parts(client: httpx.Client, token: str) -> None:
    content = picture(8 * MIB)
    made = upload(client, token, content)
    assert made.status_code == 201, made.text
    told = made.json()
    assert told["sha256"] == hashlib.sha256(content).hexdigest()
    assert (told["size"], told["content_type"]) == (len(content), "image/png")
    listed = client.get(FILES, params={"limit": 100}, headers=bearer(token)).json()
    assert told in listed["files"]

    path = f"{FILES}/{told['id']}"
    whole = client.get(path, headers=bearer(token))
    assert (whole.status_code, whole.content) == (200, content)
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["content-length"] == str(len(content))
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-disposition"].startswith("attachment;")
    assert "filename*=utf-8''k%c3%b6ln.png" in whole.headers["content-disposition"].lower()

    half = {**bearer(token), "Range": "bytes=0-4194303"}
    first = client.get(path, headers=half)
    assert first.status_code == 206
    rest = {
        **bearer(token),
        "Range": f"bytes={len(first.content)}-",
        "If-Range": first.headers["etag"],
    }
    second = client.get(path, headers=rest)
    assert second.status_code == 206
    assert second.headers["content-range"] == f"bytes 4194304-{len(content) - 1}/{len(content)}"
    assert first.content + second.content == content
    other = client.get(path, headers={**rest, "If-Range": '"another"'})
    assert (other.status_code, len(other.content)) == (200, len(content))
    for answer in (whole, first, second):
        once(answer)
    same = client.get(path, headers={**bearer(token), "If-None-Match": whole.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    once(same)
    beyond = client.get(path, headers={**bearer(token), "Range": f"bytes={len(content)}-"})
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(content)}"


def once(answer: httpx.Response) -> None:
    """What protects an answer is said, and said once."""
    for name in (
        *("x-request-id", "strict-transport-security", "x-content-type-options", "etag"),
        *("content-security-policy", "x-frame-options", "referrer-policy", "cache-control"),
    ):
        assert len(answer.headers.get_list(name)) == 1, (name, answer.headers)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"].startswith("private")
    assert "x-accel-redirect" not in answer.headers


def test_text_that_was_sent_is_not_compressed_in_parts(client: httpx.Client, token: str) -> None:
    content = "Ahoi, Köln\n".encode() * 5000
    made = upload(client, token, content, "log.txt")
    assert made.status_code == 201, made.text
    wanted = {**bearer(token), "Range": "bytes=12-50011", "Accept-Encoding": "gzip"}
    part = client.get(f"{FILES}/{made.json()['id']}", headers=wanted)
    assert (part.status_code, part.content) == (206, content[12:50012])
    assert "content-encoding" not in part.headers


def administrator(machine: Machine, client: httpx.Client) -> str:
    """The token of one who may do everything else."""
    name = f"root{secrets.token_hex(4)}"
    create = f"create-admin {name} {name}@example.com --password-file -"
    machine.run(f"printf '%s\\n' {shlex.quote(PASSWORD)} | slipway console {create}")
    answer = client.post("/api/v1/auth/token", data={"username": name, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def test_nobody_else_gets_it(machine: Machine, client: httpx.Client, token: str) -> None:
    before = entries(machine, "published")
    made = upload(client, token, picture(1000))
    (stored,) = entries(machine, "published") - before
    path = f"{FILES}/{made.json()['id']}"
    assert client.get(path).status_code == 401
    stranger = administrator(machine, client)
    assert client.get(path, headers=bearer(stranger)).status_code == 404
    assert client.delete(path, headers=bearer(stranger)).status_code == 404
    inside = stored.removeprefix(f"{folder(machine)}/published")
    for direct in (f"/.files{inside}", f"/%2efiles{inside}", f"{FILES}/../../../.files{inside}"):
        for headers in ({}, bearer(token)):
            answer = client.get(direct, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    # Its owner can take it away, at once and for good.
    assert client.delete(path, headers=bearer(token)).status_code == 204
    assert client.get(path, headers=bearer(token)).status_code == 404
    machine.wait_for(f"! test -e {stored}", 5)


def test_nginx_may_read_what_is_published_and_no_more(
    machine: Machine, client: httpx.Client, token: str
) -> None:
    before = entries(machine, "published")
    upload(client, token, picture(1000))
    (stored,) = entries(machine, "published") - before
    places = [folder(machine), f"{folder(machine)}/incoming", f"{folder(machine)}/published"]
    asked = shlex.join([*places, os.path.dirname(stored), stored])  # noqa: PTH120
    modes = machine.run(f"stat --format='%a %U %G' {asked}").stdout.splitlines()
    assert modes[0] == "2750 harbour www-data"
    assert modes[1] in {"700 harbour www-data", "2700 harbour www-data"}
    assert modes[2:] == ["750 harbour www-data", "750 harbour www-data", "640 harbour www-data"]
    nginx = "setpriv --reuid www-data --regid www-data --clear-groups"
    machine.run(f"{nginx} head -c 1 {stored} > /dev/null")
    assert machine.run(f"{nginx} ls {folder(machine)}/incoming", check=False).returncode
    assert machine.run(f"{nginx} touch {stored}", check=False).returncode
    nobody = "setpriv --reuid nobody --regid nogroup --clear-groups"
    assert machine.run(f"{nobody} ls {folder(machine)}", check=False).returncode


def connected(machine: Machine) -> ssl.SSLSocket:
    plain = socket.create_connection((machine.address, 443), timeout=30)
    return machine.context.wrap_socket(plain, server_hostname=machine.site)


def head(machine: Machine, length: int, *lines: str, path: str = UPLOAD) -> bytes:
    """The head of an upload, and how its form begins."""
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    first = (f"POST {path} HTTP/1.1", f"Host: {machine.site}", kind, f"Content-Length: {length}")
    part = 'Content-Disposition: form-data; name="file"; filename="a.png"'
    return "\r\n".join([*first, *lines, "", f"--{BOUNDARY}", part, "", ""]).encode()


def status_and_code(tls: ssl.SSLSocket) -> tuple[int, str]:
    """What comes back first."""
    received = b""
    while b"\r\n\r\n" not in received or b'"detail"' not in received:
        part = tls.recv(65536)
        assert part, received
        received += part
    body = received.partition(b"\r\n\r\n")[2]
    found = re.search(rb'"code": ?"(\w+)"', body)
    assert found, received
    return int(received.split(b" ", 2)[1]), found[1].decode()


def test_a_stranger_is_refused_before_his_file(machine: Machine) -> None:
    with connected(machine) as tls:
        tls.sendall(head(machine, 900 * MIB))
        assert status_and_code(tls)[0] == 401
    kept = machine.run("find /var/lib/nginx -type f -size +0").stdout
    assert kept == ""


def test_nginx_and_the_service_refuse_the_same_sizes(
    machine: Machine, client: httpx.Client, token: str
) -> None:
    said = machine.run(f"grep -h APP_FILE /etc/slipway/{machine.app}/environment").stdout
    found = dict(re.findall(r'^APP_(FILE\w+)="(\d+)"$', said, re.MULTILINE))
    found |= dict(re.findall(r'^APP_(FILES_PER_UPLOAD)="(\d+)"$', said, re.MULTILINE))
    one = int(found["FILE_MAX_SIZE"]) + 16 * 1024
    most = int(found["FILES_PER_UPLOAD"]) * one
    allowed = f"Authorization: Bearer {token}"
    for length, path, answer in (
        (one + 1, UPLOAD, (413, "file_too_large")),
        (most, f"{UPLOAD}-multiple", (409, "quota_exceeded")),
        (most + 1, f"{UPLOAD}-multiple", (413, "payload_too_large")),
        (most + 1, UPLOAD, (413, "payload_too_large")),
    ):
        with connected(machine) as tls:
            tls.sendall(head(machine, length, allowed, path=path))
            assert status_and_code(tls) == answer, (length, path)
    assert client.get("/health").status_code == 200


def test_what_is_cut_off_leaves_nothing(machine: Machine, client: httpx.Client, token: str) -> None:
    before = client.get(FILES, headers=bearer(token)).json()
    with connected(machine) as tls:
        tls.sendall(head(machine, 64 * MIB, f"Authorization: Bearer {token}") + picture(2 * MIB))
        # The service has it while it comes, and nothing of it is in Nginx's folders.
        machine.wait_for(f"find {folder(machine)}/incoming -type f -size +512k | grep -q .", 10)
        assert machine.run("find /var/lib/nginx -type f -size +0").stdout == ""
    machine.wait_for(f"! find {folder(machine)}/incoming -type f | grep -q .", 10)
    assert client.get(FILES, headers=bearer(token)).json() == before


def test_one_address_has_only_so_many_uploads_at_once(
    machine: Machine, client: httpx.Client, token: str
) -> None:
    allowed = f"Authorization: Bearer {token}"
    with ExitStack() as stack:
        for _ in range(10):
            tls = stack.enter_context(connected(machine))
            tls.sendall(head(machine, MIB, allowed) + picture(1000))
        machine.wait_for(f"test $(find {folder(machine)}/incoming -type f | wc -l) -ge 10", 10)
        with connected(machine) as more:
            more.sendall(head(machine, MIB, allowed))
            assert status_and_code(more) == (429, "rate_limited")
        assert client.get(FILES, headers=bearer(token)).status_code == 200
    machine.wait_for(f"! find {folder(machine)}/incoming -type f | grep -q .", 10)


@contextmanager
def full(machine: Machine) -> Iterator[None]:
    """Puts a small file system in the place of the folder."""
    where = folder(machine)
    options = "size=4m,mode=2750,uid=$(id -u harbour),gid=$(id -g www-data)"
    machine.run(f"mount -t tmpfs -o {options} slipway-test {where}")
    try:
        yield
    finally:
        machine.run(f"umount --lazy {where}")


def test_a_full_disk_is_told_and_everything_else_goes_on(
    machine: Machine, client: httpx.Client, token: str
) -> None:
    with full(machine):
        refused = upload(client, token, picture(MIB))
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "storage_full")
        assert entries(machine, "") == set()
        with connected(machine) as tls:
            tls.sendall(head(machine, 900 * MIB, f"Authorization: Bearer {token}"))
            assert status_and_code(tls) == (507, "storage_full")
        item = {"title": "A lamp", "price": "19.99"}
        made = client.post("/api/v1/items", json=item, headers=bearer(token))
        assert made.status_code == 201
        assert client.get("/health").status_code == 200
    assert upload(client, token, picture(MIB)).status_code == 201


def test_what_nobody_can_reach_is_swept(machine: Machine, client: httpx.Client, token: str) -> None:
    before = entries(machine, "published")
    content = picture(5000)
    made = upload(client, token, content)
    (stored,) = entries(machine, "published") - before
    name = stored.rpartition("/")[2]
    orphan = stored[: -len(name)] + name[:-1] + ("0" if name[-1] != "0" else "1")
    half = f"{folder(machine)}/incoming/{name}"
    machine.run(f"cp -a {stored} {orphan} && cp -a {stored} {half}")
    machine.run(f"slipway run python -c {shlex.quote(SWEEP)}", seconds=60)
    left = entries(machine, "")
    assert orphan not in left
    assert half not in left
    assert stored in left
    again = client.get(f"{FILES}/{made.json()['id']}", headers=bearer(token))
    assert again.content == content
    # The worker is the one that does so by itself.
    unit = f"{machine.app}.worker@{machine.release()}.service"
    said = machine.run(f"systemctl show --value --property=ReadWritePaths {unit}").stdout
    assert folder(machine) in said.split()


@pytest.fixture
def back(operator: Operator, machine: Machine) -> Iterator[None]:
    """Returns to the release that was live."""
    before = machine.release()
    yield
    returned = asyncio.run(operator.play("deploy/rollback.yml", f"--extra-vars=release={before}"))
    assert returned.returncode == 0, returned.text


@pytest.mark.usefixtures("back")
def test_files_outlive_a_release(
    operator: Operator,
    repository: Repository,
    machine: Machine,
    client: httpx.Client,
    token: str,
    version: Iterator[str],
) -> None:
    content = picture(3 * MIB)
    made = upload(client, token, content).json()
    new = next(version)
    repository.tag(new)
    released = asyncio.run(operator.release(new))
    assert released.returncode == 0, released.text
    assert machine.release() == new
    answer = client.get(f"{FILES}/{made['id']}", headers=bearer(token))
    assert answer.content == content
    assert upload(client, token, picture(1000)).status_code == 201


def test_a_slow_client_that_goes_on_is_heard_to_the_end(machine: Machine, token: str) -> None:
    content = picture(6000)
    end = f"\r\n--{BOUNDARY}--\r\n".encode()
    begun = head(machine, 0)
    form = begun.partition(b"\r\n\r\n")[2]
    length = len(form) + len(content) + len(end)
    with connected(machine) as tls:
        tls.sendall(head(machine, length, f"Authorization: Bearer {token}"))
        for start in range(0, len(content), 1000):
            tls.sendall(content[start : start + 1000])
            time.sleep(0.5)
        tls.sendall(end)
        answer = tls.recv(65536)
    assert b" 201 " in answer.splitlines()[0], answer
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert told["sha256"] == hashlib.sha256(content).hexdigest()
