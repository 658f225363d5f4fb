"""What clients call their files, and how their forms are cut: whatever it is, it does no harm."""

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequestError
from app.files.content import kind_of
from app.files.form import MalformedFormError, Part, boundary_of, extended_filename, read_form
from app.files.names import LONGEST, attachment, clean
from app.files.ranges import UnsatisfiableError, wanted_range

EXTENDED = re.compile(r"filename\*=UTF-8''(\S*)")
NASTY = st.text(
    alphabet=st.one_of(st.characters(), st.sampled_from('/\\.:;"%\r\n\0\t \u202e\u2028'))
)


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("..\\..\\windows\\system.txt", "system.txt"),
        ("C:\\Users\\ann\\photo.jpg", "photo.jpg"),
        ("/absolute.txt", "absolute.txt"),
        ("...hidden.txt", "hidden.txt"),
        ("  two   words .txt", "two words .txt"),
        ("a\r\nSet-Cookie: x=y.txt", "a Set-Cookie: x=y.txt"),
        ("nul\0.txt", "nul.txt"),
        ("photo\u202egpj.txt", "photogpj.txt"),
        ("Gru\u0308\u00dfe.txt", "Grüße.txt"),
        ("x" * 300 + ".txt", "x" * 251 + ".txt"),
        ("x" * 254 + " " + "x" * 100, "x" * 254),
        ("one \u200b two.txt", "one two.txt"),
        ("", ""),
        ("..", ""),
    ],
)
def test_names_are_kept_without_what_could_do_harm(given_name: str, kept: str) -> None:
    assert clean(given_name) == kept


@given(NASTY)
def test_a_name_is_one_visible_line_without_a_path(name: str) -> None:
    kept = clean(name)
    assert kept.isprintable()
    assert len(kept) <= LONGEST
    assert not {"/", "\\"} & set(kept)
    assert not kept.startswith(".")
    assert clean(kept) == kept


@given(NASTY)
def test_a_name_cannot_leave_its_header_and_comes_back(name: str) -> None:
    kept = clean(name)
    header = attachment(kept)
    assert header.isascii()
    assert header.isprintable()
    plain = re.match(r'attachment; filename="([^"\\%]*)"', header)
    assert plain
    extended = EXTENDED.search(header[plain.end() :])
    assert (unquote(extended[1]) if extended else plain[1]) == kept


@given(NASTY)
def test_the_kind_is_that_of_the_name_that_is_kept(name: str) -> None:
    try:
        kind = kind_of(clean(name))
    except BadRequestError:
        return
    assert kind.content_type
    assert "." in clean(name)


@given(
    contents=st.lists(
        st.one_of(
            st.binary(max_size=60), st.sampled_from([b"\r\n--lin", b"\r\n-", b"--line", b"\r"])
        ),
        max_size=4,
    ),
    cuts=st.lists(st.integers(0, 600), max_size=12),
)
def test_a_form_is_read_alike_however_it_is_cut(contents: list[bytes], cuts: list[int]) -> None:
    contents = [content.replace(b"\r\n--line", b"") for content in contents]
    body = b"".join(
        b'--line\r\nContent-Disposition: form-data; name="files"; filename="%d.txt"\r\n\r\n%s\r\n'
        % (number, content)
        for number, content in enumerate(contents)
    )
    body += b"--line--\r\n"
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})

    async def pieces() -> AsyncIterator[bytes]:
        for start, stop in pairwise(places):
            yield body[start:stop]

    async def read() -> list[tuple[Part, bytes]]:
        found: list[tuple[Part, bytes]] = []
        async for event in read_form(b"line", pieces()):
            if isinstance(event, Part):
                found.append((event, b""))
            else:
                part, so_far = found.pop()
                found.append((part, so_far + event))
        return found

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        found = runner.run(read())
    assert found == [
        (Part("files", f"{number}.txt"), content) for number, content in enumerate(contents)
    ]


@given(NASTY, st.sampled_from(["", '; filename="=?utf-8?B?YS50eHQ=?="']), st.booleans())
def test_an_extended_name_comes_back(name: str, plain: str, first: bool) -> None:
    extended = f"; filename*=utf-8''{quote(name.encode(errors='replace'), safe='!#$&+^`|')}"
    names = extended + plain if first else plain + extended
    found = extended_filename(f'form-data; name="file"{names}')
    assert found == name.encode(errors="replace").decode()


@given(
    st.lists(
        st.one_of(
            st.text(alphabet=st.characters(max_codepoint=255), max_size=8),
            st.sampled_from(
                ['"', "\\", ";", "filename*=", "utf-8''", "%", "%FF", "%C3%BC", "=", "'"]
            ),
        ),
        max_size=20,
    )
)
def test_a_part_with_any_disposition_is_one_or_no_form(pieces: list[str]) -> None:
    disposition = b"form-data; name=file; " + "".join(pieces).encode("latin-1")
    body = b"--line\r\nContent-Disposition: " + disposition + b"\r\n\r\nx\r\n--line--\r\n"

    async def read() -> list[Part | bytes]:
        return [event async for event in read_form(b"line", whole())]

    async def whole() -> AsyncIterator[bytes]:
        yield body

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            part = runner.run(read())[0]
        except MalformedFormError:
            return
    assert isinstance(part, Part)
    assert part.filename is None or part.filename.encode()


@given(st.text(), st.integers(0, 1000))
def test_a_range_is_within_its_file(header: str, size: int) -> None:
    for value in (header, f"bytes={header}"):
        try:
            part = wanted_range(value, size)
        except UnsatisfiableError:
            continue
        if part is not None:
            assert 0 <= part[0] < part[1] <= size


@given(st.text(max_size=200))
def test_any_content_type_can_be_looked_at(header: str) -> None:
    for value in (header, f"multipart/form-data; boundary={header}"):
        boundary = boundary_of(value)
        assert boundary is None or 0 < len(boundary) <= 70
