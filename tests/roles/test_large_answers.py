"""A real Nginx with the rendered site, and answers that are large in one way or another."""

import http
import time

from tests.roles.nginx_site import NAME
from tests.roles.test_files_site import (
    BLOCK,
    BLOCKS,
    EXPORT,
    KEPT,
    LIST,
    LONG,
    Service,
    Site,
    site,
)

__all__ = ["site"]


def blocks_taken() -> int:
    """How many blocks Nginx has taken of the service when it takes no more."""
    deadline, before = time.monotonic() + 30, 0
    while before != Service.sent or not before:
        assert time.monotonic() < deadline, f"{Service.sent} blocks are sent, and it goes on"
        before = Service.sent
        time.sleep(0.5)
    return before


def test_an_answer_that_is_read_slowly_is_not_kept_on_the_disk(site: Site) -> None:
    temporary = site.folder / "kept_answers"
    Service.sent = 0
    with site.connect() as tls:
        tls.sendall(f"GET {EXPORT} HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
        begin = tls.recv(4096)
        assert b" 200 " in begin.splitlines()[0]
        assert blocks_taken() < BLOCKS - 1
        assert temporary.is_dir()
        assert list(temporary.rglob("*")) == []
        size = len(begin.partition(b"\r\n\r\n")[2])
        while size < BLOCKS * len(BLOCK):
            part = tls.recv(2**20)
            assert part
            size += len(part)
    assert list(temporary.rglob("*")) == []


def test_a_file_with_a_long_name_comes_to_another_origin(site: Site) -> None:
    answer = site.ask(f"{LIST}/long", {"Origin": LONG["Access-Control-Allow-Origin"]})
    assert (answer.status, answer.body) == (http.HTTPStatus.OK, KEPT)
    for name in ("Content-Disposition", "Access-Control-Allow-Origin"):
        assert answer.headers.get_all(name) == [LONG[name]]
