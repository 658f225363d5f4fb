"""What clients send by mistake or on purpose: always a clear 4xx in the shape that errors have."""

import asyncio
import base64
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.settings import Settings
from tests.app.conftest import PASSWORD, SECRET, RunSql, StartApp, log_in, register
from tests.app.stage import ITEM, SESSIONS, Stage, stage_on
from tests.services import PostgreSQL, RedisServer

REGISTER = "/api/v1/users/register"
JSON = {"Content-Type": "application/json"}
ANN = {"username": "ann", "email": "ann@example.com", "password": PASSWORD, "full_name": "Ann"}
# As text, because Python's own encoder would not write it.
LONE_SURROGATE = "\\ud800"


@pytest.fixture(scope="module")
async def whole_stage(
    postgresql: PostgreSQL, redis_server: RedisServer, settings_with: Callable[..., Settings]
) -> AsyncIterator[Stage]:
    """One instance with accounts for all tests that leave them as they are."""
    async with stage_on(postgresql, redis_server, settings_with(limit_register="")) as stage:
        yield stage


@pytest.fixture
async def stage(whole_stage: Stage) -> Stage:
    """The instance as it was in the beginning."""
    await whole_stage.set_back()
    return whole_stage


def check_refused(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in (statuses or range(400, 500)), answer.text[:500]
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error", "detail"}
    assert set(body["error"]) == {"code", "message", "request_id"}
    assert re.fullmatch(r"[a-z][a-z_]*", body["error"]["code"])
    assert body["error"]["message"]
    assert body["error"]["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text


def with_field(field: str, text: str, body: dict[str, Any]) -> bytes:
    """Return a JSON body in which a field has a value that is written as it is given."""
    return json.dumps({**body, field: "MARK"}).replace('"MARK"', text).encode()


async def post_json(stage: Stage, path: str, content: bytes) -> httpx.Response:
    headers = {**stage.headers[SESSIONS["super_admin"]], **JSON}
    return await stage.client.post(path, content=content, headers=headers)


BAD_VALUES = ("null", "{}", "[]", "[[]]", "true", "1e400", "-1e400", "9" * 5000, '""')
FIELDS = [
    (REGISTER, ANN, ("username", "email", "password")),
    ("/api/v1/items", ITEM, ("title", "price", "quantity")),
    ("/api/v1/api-keys", {"name": "script"}, ("name", "scopes", "expires_at")),
    ("/api/v1/auth/refresh", {"refresh_token": "x"}, ("refresh_token",)),
    ("/api/v1/auth/change-password", {"current_password": "x", "new_password": "y"}, ()),
    ("/api/v1/users/verify-email", {"token": "x"}, ("token",)),
    ("/api/v1/users/password-reset/request", {"email": "a@example.com"}, ("email",)),
    ("/api/v1/users/password-reset", {"token": "x", "new_password": "y"}, ("token",)),
]
ENDPOINTS = [(path, body) for path, body, _ in FIELDS]
paths_and_fields = pytest.mark.parametrize(
    ("path", "body", "field"),
    [(path, body, field) for path, body, fields in FIELDS for field in fields],
    ids=lambda value: value if isinstance(value, str) else "",
)
paths_and_bodies = pytest.mark.parametrize(
    ("path", "body"), ENDPOINTS, ids=[path for path, _ in ENDPOINTS]
)


@paths_and_fields
async def test_a_value_of_another_kind_is_refused(
    stage: Stage, path: str, body: dict[str, Any], field: str
) -> None:
    taken = {("scopes", "null"), ("expires_at", "null")}
    for value in (*BAD_VALUES, '"\\u0000"', f'"{LONE_SURROGATE}"', f'"{"x" * 10_000}"'):
        answer = await post_json(stage, path, with_field(field, value, body))
        if (field, value) not in taken:
            # A token that nobody has is refused as such.
            check_refused(answer, 400, 401, 422)
        assert answer.status_code < 500, value


@paths_and_bodies
async def test_a_broken_body_is_refused(stage: Stage, path: str, body: dict[str, Any]) -> None:
    whole = json.dumps(body).encode()
    name = next(iter(body))
    doubled = whole[:-1] + b', "' + name.encode() + b'": "other"}'
    broken = (
        b"",
        b"{",
        b"nothing",
        b"\xff\xfe\x00",
        b"\x00",
        b"[]",
        b'"text"',
        b"17",
        whole[:-1],
        whole + b"x",
        whole.replace(b'"', b"'"),
        whole[:-1] + b",}",
        doubled,
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b"[" * 30_000 + b"]" * 30_000,
        whole[:-1] + b', "deep": ' + b"[" * 900 + b"]" * 900 + b', "deep": 1}',
        with_field(name, "NaN", body),
        with_field(name, "Infinity", body),
        with_field(name, "-Infinity", body),
    )
    for content in broken:
        check_refused(await post_json(stage, path, content), 400, 401, 422)
    # As good as it is: no request needs as much, and its JSON would keep everybody else waiting.
    long = whole[:-1] + b" " * 70_000 + b"}"
    check_refused(await post_json(stage, path, long), 413)


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"NaN"', '"Infinity"', "-0", "0.001", "1e13"])
async def test_a_price_is_an_exact_amount(stage: Stage, value: str) -> None:
    check_refused(await post_json(stage, "/api/v1/items", with_field("price", value, ITEM)), 422)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("price", value) for value in ("1_0.5", "٩.٩٩", " 9.99 ", "9.99\n", "5.", ".5", "")],
        *[("quantity", value) for value in ("1_0", "٣", " 3 ", "3\n", "")],
        *[(field, value) for field in ("price", "quantity") for value in (True, False)],
    ],
)
async def test_a_number_is_written_as_one(stage: Stage, field: str, value: str | bool) -> None:
    headers = stage.headers[SESSIONS["super_admin"]]
    wrong = {field: value}
    made = await stage.client.post("/api/v1/items", json={**ITEM, **wrong}, headers=headers)
    check_refused(made, 422)
    assert made.json()["detail"][0]["loc"] == ["body", field]
    check_refused(await stage.client.patch("/api/v1/items/1", json=wrong, headers=headers), 422)


@pytest.mark.parametrize(
    ("price", "kept"), [("12.50", "12.50"), ("+7", "7.00"), ("1e2", "100.00"), (9.99, "9.99")]
)
async def test_a_price_is_taken_as_text_or_as_a_number(
    stage: Stage, price: str | float, kept: str
) -> None:
    headers = stage.headers[SESSIONS["super_admin"]]
    given = {**ITEM, "price": price, "quantity": "3"}
    made = await stage.client.post("/api/v1/items", json=given, headers=headers)
    assert (made.status_code, made.json()["price"], made.json()["quantity"]) == (201, kept, 3)


@paths_and_bodies
@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/xml",
        "text/plain; charset=utf-7",
        "\u00fc",
        "",
    ],
)
async def test_json_under_another_name_is_not_taken(
    stage: Stage, path: str, body: dict[str, Any], kind: str
) -> None:
    headers = [
        *(
            (name.encode(), value.encode())
            for name, value in stage.headers[SESSIONS["super_admin"]].items()
        ),
        (b"Content-Type", kind.encode()),
    ]
    content = json.dumps(body).encode()
    answer = await stage.client.post(path, content=content, headers=headers)
    check_refused(answer, 400, 401, 415, 422)


@pytest.mark.parametrize("path", ["/api/v1/auth/token", "/api/v1/auth/login"])
@pytest.mark.parametrize("charset", ["punycode", "utf-7", "idna", "utf-8"])
async def test_a_form_of_parts_is_refused_before_it_is_read(
    stage: Stage, path: str, charset: str
) -> None:
    part = (
        b"--x\r\nContent-Disposition: form-data; name=username\r\n"
        b"Content-Type: text/plain; charset=" + charset.encode() + b"\r\n\r\n"
    )
    content = part + b"a-" * 200_000 + b"\r\n--x--\r\n"
    asked = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal asked
        for start in range(0, len(content), 10_000):
            asked += 1
            yield content[start : start + 10_000]

    before = time.process_time()
    kind = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    for body in (content, chunks()):
        check_refused(await stage.client.post(path, content=body, headers=kind), 413, 415)
    # Decoding that much punycode takes minutes of one core.
    assert time.process_time() - before < 5
    assert asked <= 1


@pytest.mark.parametrize("path", ["/api/v1/auth/token", "/api/v1/auth/login"])
async def test_a_form_that_is_wrong_is_refused(stage: Stage, path: str) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for content in (
        b"",
        b"username=ann",
        b"username=ann&password=",
        b"%",
        b"username=%ff&password=%ff",
        b"username=%00&password=%00",
        b"username=%ED%A0%80&password=x",
        b"\xff\x00",
        b"username=a&username=b&password=x",
        b"grant_type=other&username=a&password=x",
        b"&".join(b"f%d=1" % number for number in range(1500)),
    ):
        answer = await stage.client.post(path, content=content, headers=kind)
        check_refused(answer, 400, 401, 413, 422)
    large = b"username=ann&password=" + b"x" * 400_000
    check_refused(await stage.client.post(path, content=large, headers=kind), 413)
    for charset in ("punycode", "utf-7", "nonsense"):
        form = b"username=ann&password=x"
        headers = {"Content-Type": f"application/x-www-form-urlencoded; charset={charset}"}
        check_refused(await stage.client.post(path, content=form, headers=headers), 401, 415)


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(name=st.text(max_size=220), title=st.text(max_size=220))
async def test_text_is_kept_as_it_was_sent_or_refused(stage: Stage, name: str, title: str) -> None:
    def content(body: dict[str, Any]) -> bytes:
        return json.dumps(body).encode()

    headers = {**stage.headers[SESSIONS["user"]], **JSON}
    answer = await stage.client.put(
        "/api/v1/users/me", content=content({"full_name": name}), headers=headers
    )
    if answer.is_success:
        assert answer.json()["full_name"].strip() == name.strip()
        assert len(name.strip()) <= 200
        assert "\x00" not in name
    else:
        check_refused(answer, 422)
    answer = await stage.client.post(
        "/api/v1/items", content=content({**ITEM, "title": title}), headers=headers
    )
    if answer.is_success:
        kept = await stage.client.get(f"/api/v1/items/{answer.json()['id']}")
        assert kept.json()["title"].strip() == title.strip()
    else:
        check_refused(answer, 422)
    search = await stage.client.get(
        "/api/v1/items", params={"search": title.encode("utf-8", "replace")}
    )
    if not search.is_success:
        check_refused(search, 422)


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(username=st.text(max_size=60))
async def test_a_username_has_plain_characters_only(stage: Stage, username: str) -> None:
    content = json.dumps({**ANN, "username": username, "password": "short"}).encode()
    answer = await stage.client.post(REGISTER, content=content, headers=JSON)
    check_refused(answer, 422)
    fields = {one["loc"][-1] for one in answer.json()["detail"]}
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{2,49}", username)
    # Of a name that is good the password is what is wrong.
    assert fields == ({"password"} if plain else {"username"})


@pytest.mark.parametrize(
    "username",
    ["ann\n", "аnn", "a\u0301nn", "ann\u200b", "\u202enna", "ann ", "Å" * 5, "../ann"],  # noqa: RUF001
)
async def test_a_name_that_looks_like_another_one_is_refused(stage: Stage, username: str) -> None:
    answer = await stage.client.post(REGISTER, json={**ANN, "username": username})
    check_refused(answer, 422)
    assert [one["loc"] for one in answer.json()["detail"]] == [["body", "username"]]


@pytest.mark.parametrize(
    "number", ["0", "-1", "9223372036854775808", "9" * 5000, "1.5", "1e3", "%00", "x"]
)
async def test_an_id_that_cannot_be_one_is_refused(stage: Stage, number: str) -> None:
    headers = stage.headers[SESSIONS["super_admin"]]
    for path in ("items", "auth/sessions", "api-keys"):
        method = "GET" if path == "items" else "DELETE"
        answer = await stage.client.request(method, f"/api/v1/{path}/{number}", headers=headers)
        check_refused(answer, 404, 422)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("items", "skip=-1"),
        ("items", "skip=" + "9" * 400),
        ("items", "limit=101"),
        ("items", "limit=nan"),
        ("items", "search=%00"),
        ("items", "search=" + "x" * 201),
        ("admin/users", "search=%00"),
        ("admin/audit", "event=%00"),
        ("admin/audit", "since=yesterday"),
        ("admin/audit", "since=2026-01-01T00:00:00"),
        ("admin/audit", "cursor=9223372036854775808"),
        ("admin/audit", "user_id=0"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(stage: Stage, path: str, query: str) -> None:
    headers = stage.headers[SESSIONS["super_admin"]]
    check_refused(await stage.client.get(f"/api/v1/{path}?{query}", headers=headers), 422)


@pytest.mark.parametrize(
    "header", ["X-Request-ID", "User-Agent", "X-Forwarded-For", "X-CSRF-Token"]
)
async def test_a_line_break_in_a_header_gets_into_no_answer_and_no_log(
    stage: Stage, header: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in (
        b"a" * 8 + b"\r\nX-Evil: 1",
        b"abcdefgh\nX-Evil: 1",
        b"abcdefgh\x00",
        b"\xff" * 9,
    ):
        answer = await stage.client.get("/api/v1/items", headers=[(header.encode(), value)])
        assert answer.status_code == 200
        assert "x-evil" not in answer.headers
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len([line for line in lines if line["event"] == "http.request"]) == 4
    assert "X-Evil" not in json.dumps(lines)


async def test_a_line_break_in_a_user_agent_is_not_kept(stage: Stage, sql: RunSql) -> None:
    headers = [(b"User-Agent", b"Browser\r\n1\x00\x1b[31m")]
    form = {"username": "victim", "password": PASSWORD}
    answer = await stage.client.post("/api/v1/auth/token", data=form, headers=headers)
    assert answer.status_code == 200
    assert sql("SELECT user_agent FROM sessions ORDER BY id DESC LIMIT 1") == "Browser1[31m"


async def test_a_line_break_in_a_full_name_is_refused(stage: Stage) -> None:
    name = "Ann\r\nBcc: everybody@example.com"
    headers = stage.headers[SESSIONS["user"]]
    answer = await stage.client.put("/api/v1/users/me", json={"full_name": name}, headers=headers)
    check_refused(answer, 422)
    assert "bcc" not in answer.headers


@pytest.mark.parametrize("address", ["ann@example.com\r\nBcc: b@example.com", "a\x00@example.com"])
async def test_a_line_break_in_an_address_is_refused(stage: Stage, address: str) -> None:
    check_refused(await stage.client.post(REGISTER, json={**ANN, "email": address}), 422)


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forgeries(good: str) -> dict[str, str]:
    """Return tokens that are all but good."""
    header = jwt.get_unverified_header(good)
    claims = jwt.decode(good, options={"verify_signature": False})
    now = int(time.time())

    def signed(**changes: Any) -> str:
        return jwt.encode({**claims, **changes}, SECRET, algorithm="HS256", headers=header)

    assert signed() == good, "What is changed below is all that is wrong."
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    head, body, signature = good.split(".")
    unsigned = part({**header, "alg": "none"})
    return {
        "alg none": f"{unsigned}.{body}.",
        "alg None": f"{part({**header, 'alg': 'None'})}.{body}.",
        "alg none, signed": f"{unsigned}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "RS256": jwt.encode(claims, pem, algorithm="RS256", headers={"kid": header["kid"]}),
        "alg RS256, HMAC": f"{part({**header, 'alg': 'RS256'})}.{body}.{signature}",
        "HS512": jwt.encode(claims, SECRET, algorithm="HS512", headers={"kid": header["kid"]}),
        "key of the header": f"{part({**header, 'jwk': {'kty': 'oct', 'k': ''}})}.{body}.x",
        "kid of another type": f"{part({**header, 'kid': 7})}.{body}.{signature}",
        "kid of a file": f"{part({**header, 'kid': '/dev/null'})}.{body}.{signature}",
        "wrong audience": signed(aud="elsewhere"),
        "wrong issuer": signed(iss="elsewhere"),
        "expired": signed(iat=now - 1000, exp=now - 100),
        "from the future": signed(iat=now + 1000, exp=now + 2000),
        "not yet": signed(nbf=now + 1000),
        "another type": signed(type="refresh"),
        "another account": signed(sub="999"),
        "an account beyond bigint": signed(sub="9" * 30),
        "a session beyond bigint": signed(sid=10**30),
        "a negative session": signed(sid=-1),
        "a session that is true": signed(sid=True),
        "scopes of lists": signed(scopes=[["admin"]]),
        "truncated": good[:-1],
        "truncated in the claims": good[: len(head) + 20],
        "a changed claim": f"{head}.{part({**claims, 'scopes': ['admin']})}.{signature}",
        "four parts": f"{good}.x",
        "no parts": "...",
        "NUL": f"{good}\x00",
        "no base64": f"{head}.\u00fc.{signature}",
        "100 KB": "a" * 100_000,
        "100 KB after a good one": good + "a" * 100_000,
    }


async def test_a_token_that_is_all_but_good_is_refused(stage: Stage) -> None:
    caller = SESSIONS["super_admin"]
    good = stage.headers[caller]["Authorization"].removeprefix("Bearer ")
    for name, token in forgeries(good).items():
        for header in (
            (b"Authorization", b"Bearer " + token.encode()),
            (b"X-API-Key", token.encode()),
        ):
            answer = await stage.client.get("/api/v1/admin/dashboard", headers=[header])
            assert answer.status_code == 401, name
            check_refused(answer)
            assert answer.headers["www-authenticate"] == "Bearer"
    answer = await stage.client.get("/api/v1/admin/dashboard", headers=stage.headers[caller])
    assert answer.status_code == 200


async def test_of_fifty_who_register_one_name_at_once_one_gets_it(
    start_app: StartApp, sql: RunSql
) -> None:
    instances = [await start_app() for _ in range(2)]
    answers = await asyncio.gather(
        *(register(instances[number % 2], "ann") for number in range(50))
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 49}
    for answer in answers:
        if answer.status_code == 409:
            check_refused(answer)
    assert sql("SELECT count(*) FROM users") == "1"
    assert (await log_in(instances[1], "ann")).status_code == 200
