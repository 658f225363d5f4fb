"""Logging in, and the tokens."""

import asyncio
import hashlib
import time
from typing import Any

import httpx
import jwt
import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from tests.app.conftest import PASSWORD, SECRET, Login, RunSql, log_in, register

KID = hashlib.sha256(b"kid:" + SECRET.encode()).hexdigest()[:16]
CLAIMS = ("sub", "jti", "sid", "iat", "exp", "iss", "aud", "type", "scopes")
USER_SCOPES = "profile:read profile:write items:read items:write"


def decoded(token: str) -> dict[str, Any]:
    return jwt.decode(token, SECRET, algorithms=["HS256"], audience="harbour-api", issuer="harbour")


async def test_a_token_says_what_it_should(client: httpx.AsyncClient) -> None:
    await register(client, "ann")
    before = int(time.time())
    answer = await log_in(client, "Ann")
    assert answer.status_code == 200
    body = answer.json()
    assert body["token_type"] == "bearer"
    assert body["expires_in"] == 900
    assert body["scope"] == USER_SCOPES
    assert answer.headers["cache-control"] == "no-store"
    claims = decoded(body["access_token"])
    assert claims["sub"] == "1"
    assert claims["type"] == "access"
    assert claims["scopes"] == USER_SCOPES.split()
    assert claims["exp"] - claims["iat"] == 900
    assert before <= claims["iat"] <= time.time()
    second = decoded((await log_in(client, "ann")).json()["access_token"])
    assert second["jti"] != claims["jti"]


@pytest.mark.parametrize(
    ("requested", "granted"),
    [
        ("items:read", "items:read"),
        ("items:write items:read", "items:read items:write"),
        ("admin items:read", "items:read"),
        ("admin", ""),
        ("no:such", ""),
    ],
)
async def test_granted_scopes_are_those_requested_and_allowed(
    client: httpx.AsyncClient, requested: str, granted: str
) -> None:
    await register(client, "ann")
    answer = await log_in(client, "ann", scope=requested)
    assert answer.json()["scope"] == granted
    assert decoded(answer.json()["access_token"])["scopes"] == granted.split()


async def test_an_admin_is_allowed_more(client: httpx.AsyncClient, login: Login) -> None:
    await login("root", role="admin")
    scopes = (await log_in(client, "root")).json()["scope"].split()
    assert {"admin", "users:write", "items:delete"} <= set(scopes)


@pytest.mark.parametrize(
    ("username", "password"),
    [("ann", "Wrong-horse-7"), ("nobody", PASSWORD), ("nul\x00", PASSWORD), ("ann", "x" * 5000)],
)
async def test_failed_logins_answer_alike(
    client: httpx.AsyncClient, username: str, password: str
) -> None:
    await register(client, "ann")
    answer = await log_in(client, username, password)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    body = answer.json()
    body["error"].pop("request_id")
    message = "Incorrect username or password"
    assert body == {
        "error": {"code": "invalid_credentials", "message": message},
        "detail": message,
    }


async def test_a_burst_of_logins_does_not_hold_up_other_requests(
    client: httpx.AsyncClient,
) -> None:
    await register(client, "ann")
    burst = [asyncio.create_task(log_in(client, "ann", "Wrong-horse-7")) for _ in range(20)]
    await asyncio.sleep(0)
    # Hashed on the event loop, all of the twenty would be done before the first answer.
    assert (await client.get("/health")).status_code == 200
    assert not any(task.done() for task in burst[10:])
    assert {answer.status_code for answer in await asyncio.gather(*burst)} == {401}


async def test_a_hash_with_old_parameters_is_replaced_at_login(
    client: httpx.AsyncClient, sql: RunSql
) -> None:
    await register(client, "ann")
    old = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8192, parallelism=1),))
    sql(f"UPDATE users SET password_hash = '{old.hash(PASSWORD)}'")
    assert (await log_in(client, "ann")).status_code == 200
    assert "m=19456,t=2,p=1" in sql("SELECT password_hash FROM users")
    assert (await log_in(client, "ann")).status_code == 200


async def test_a_login_without_a_password_is_a_422(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/auth/token", data={"username": "ann"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "password"]


def forged(**changes: Any) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {
        "sub": "1",
        "jti": "x",
        "sid": 1,
        "iat": now,
        "exp": now + 60,
        "iss": "harbour",
        "aud": "harbour-api",
        "type": "access",
        "scopes": USER_SCOPES.split(),
    }
    key: Any = changes.pop("key", SECRET)
    algorithm = changes.pop("algorithm", "HS256")
    claims.update(changes)
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": KID})


async def test_the_forger_of_these_tests_can_make_a_good_token(client: httpx.AsyncClient) -> None:
    await register(client, "ann")
    await log_in(client, "ann")
    headers = {"Authorization": f"Bearer {forged()}"}
    assert (await client.get("/api/v1/users/me", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"key": "another-" + SECRET},
        {"algorithm": "HS384"},
        {"algorithm": "none", "key": None},
        {"exp": 1_000_000_000},
        {"iss": "elsewhere"},
        {"aud": "elsewhere"},
        {"type": "refresh"},
        {"sub": "ann"},
        {"sub": "2"},
        {"sub": "9" * 30},
        {"sub": "0"},
        {"sid": 2},
        {"sid": 10**30},
        {"sid": "1"},
        {"iat": 4_000_000_000, "exp": 4_000_000_060},
        {"nbf": 4_000_000_000},
        {"scopes": 7},
        *(
            {name: None}
            for name in ("sub", "jti", "sid", "iat", "exp", "iss", "aud", "type", "scopes")
        ),
    ],
    ids=str,
)
async def test_a_token_that_is_not_ours_is_refused(
    client: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    await register(client, "ann")
    await log_in(client, "ann")
    headers = {"Authorization": f"Bearer {forged(**change)}"}
    answer = await client.get("/api/v1/users/me", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "not_authenticated"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer x.y.z", "Basic YTpi"])
async def test_a_request_without_a_token_is_refused(
    client: httpx.AsyncClient, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = await client.get("/api/v1/users/me", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
