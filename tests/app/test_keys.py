"""API keys: what they may do, and for how long."""

import asyncio
import datetime as dt
import hashlib
from typing import Any

import httpx
import pytest

from tests.app.conftest import PASSWORD, Login, RunSql, StartApp, events, log_in, register

KEYS = "/api/v1/api-keys"
ME = "/api/v1/users/me"
CHANGE = "/api/v1/auth/change-password"
NEW = "Better-horse-8"
USER_SCOPES = ["profile:read", "profile:write", "items:read", "items:write"]


async def make(client: httpx.AsyncClient, headers: dict[str, str], **wanted: Any) -> httpx.Response:
    return await client.post(KEYS, json={"name": "script", **wanted}, headers=headers)


async def key_of(
    client: httpx.AsyncClient, headers: dict[str, str], **wanted: Any
) -> dict[str, str]:
    answer = await make(client, headers, **wanted)
    assert answer.status_code == 201, answer.text
    return {"X-API-Key": answer.json()["api_key"]}


def outcome(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_key_is_shown_once_and_only_its_hash_is_stored(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    headers = await login("ann")
    answer = await make(client, headers, name="  backup ")
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    key = made.pop("api_key")
    assert len(key) == 47
    assert (made["name"], made["prefix"], made["scopes"]) == ("backup", key[:12], USER_SCOPES)
    assert (made["expires_at"], made["last_used_at"]) == (None, None)
    listed = await client.get(KEYS, headers=headers)
    assert listed.json() == {"api_keys": [made]}
    stored = sql("SELECT encode(key_hash, 'hex') FROM api_keys")
    assert stored == hashlib.sha256(key.encode()).hexdigest()
    assert key not in sql("SELECT json_agg(k) FROM api_keys AS k")
    assert (await client.get(ME, headers={"X-API-Key": key})).json()["username"] == "ann"


async def test_a_revoked_key_is_worthless_at_once_on_every_instance(start_app: StartApp) -> None:
    one, other = [await start_app() for _ in range(2)]
    for name in ("ann", "bob"):
        await register(one, name)
    ann, bob = [
        {"Authorization": f"Bearer {(await log_in(one, name)).json()['access_token']}"}
        for name in ("ann", "bob")
    ]
    key = await key_of(one, ann)
    assert (await other.get(ME, headers=key)).status_code == 200
    # Nobody takes away the key of somebody else, or learns that there is one.
    assert outcome(await one.delete(f"{KEYS}/1", headers=bob)) == (404, "api_key_not_found")
    assert outcome(await one.delete(f"{KEYS}/2", headers=ann)) == (404, "api_key_not_found")
    assert (await other.get(ME, headers=key)).status_code == 200
    assert (await one.delete(f"{KEYS}/1", headers=ann)).status_code == 204
    assert (await other.get(ME, headers=key)).status_code == 401
    assert (await one.get(KEYS, headers=ann)).json() == {"api_keys": []}


@pytest.mark.parametrize("key", ["x", "hak_" + "a" * 43, "hak_ß", "a" * 500])
async def test_a_key_that_is_none_is_refused(
    client: httpx.AsyncClient, login: Login, key: str
) -> None:
    await key_of(client, await login("ann"))
    answer = await client.get(ME, headers={b"X-API-Key": key.encode()})
    assert outcome(answer) == (401, "not_authenticated")


@pytest.mark.parametrize(
    ("role", "scopes"),
    [
        ("user", USER_SCOPES),
        ("moderator", [*USER_SCOPES, "items:delete", "users:read"]),
        ("admin", [*USER_SCOPES, "items:delete", "users:read"]),
    ],
)
async def test_a_key_may_not_administer_unless_that_is_asked_for(
    client: httpx.AsyncClient, login: Login, role: str, scopes: list[str]
) -> None:
    headers = await login("ann", role=role)
    answer = await make(client, headers)
    assert answer.json()["scopes"] == scopes
    key = {"X-API-Key": answer.json()["api_key"]}
    assert (await client.get("/api/v1/admin/users", headers=key)).status_code == 403
    if role == "admin":
        key = await key_of(client, headers, scopes=["admin", "users:read"])
        assert (await client.get("/api/v1/admin/users", headers=key)).status_code == 200


async def test_a_key_may_not_do_more_than_who_makes_it(
    client: httpx.AsyncClient, login: Login
) -> None:
    ann = await login("ann")
    answer = await make(client, ann, scopes=["items:read", "items:delete"])
    assert outcome(answer) == (403, "insufficient_scope")
    # Nor than the token that makes it, though the role would allow more.
    token = (await log_in(client, "ann", scope="profile:read profile:write")).json()
    narrow = {"Authorization": f"Bearer {token['access_token']}"}
    assert outcome(await make(client, narrow, scopes=["items:read"])) == (403, "insufficient_scope")
    assert (await make(client, narrow)).json()["scopes"] == ["profile:read", "profile:write"]
    key = await key_of(client, ann, scopes=["items:read"])
    assert outcome(await client.get(ME, headers=key)) == (403, "insufficient_scope")


async def test_a_key_follows_the_role_when_that_falls(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    key = await key_of(client, await login("ann", role="admin"), scopes=["admin", "users:read"])
    path = "/api/v1/admin/users"
    assert (await client.get(path, headers=key)).status_code == 200
    sql("UPDATE users SET role = 'user'")
    assert (await client.get(path, headers=key)).status_code == 403
    sql("UPDATE users SET role = 'moderator'")
    assert (await client.get(path, headers=key)).status_code == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "  "},
        {"name": "x" * 101},
        {"name": "nul\x00"},
        {"scopes": []},
        {"scopes": ["no:such"]},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "2099-01-01T00:00:00"},
    ],
)
async def test_what_makes_no_sense_of_a_key_is_refused(
    client: httpx.AsyncClient, login: Login, wrong: dict[str, Any], sql: RunSql
) -> None:
    answer = await make(client, await login("ann"), **wrong)
    assert outcome(answer) == (422, "validation_error")
    assert answer.json()["detail"][0]["loc"][:2] == ["body", next(iter(wrong))]
    assert sql("SELECT count(*) FROM api_keys") == "0"


async def test_a_key_ends_when_it_said_so(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    headers = await login("ann")
    ends = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    key = await key_of(client, headers, expires_at=ends)
    assert (await client.get(ME, headers=key)).status_code == 200
    (listed,) = (await client.get(KEYS, headers=headers)).json()["api_keys"]
    assert dt.datetime.fromisoformat(listed["expires_at"]) == dt.datetime.fromisoformat(ends)
    sql("UPDATE api_keys SET expires_at = now() - interval '1 second'")
    assert (await client.get(ME, headers=key)).status_code == 401


async def test_the_last_use_is_noted_about_once_a_minute(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    key = await key_of(client, await login("ann"))
    used = "SELECT last_used_at FROM api_keys"
    assert sql(used) == ""
    await client.get(ME, headers=key)
    first = sql(used)
    assert first
    await client.get(ME, headers=key)
    assert sql(used) == first
    sql("UPDATE api_keys SET last_used_at = now() - interval '61 seconds'")
    before = sql(used)
    await client.get(ME, headers=key)
    assert sql(used) > before
    assert sql("SELECT now() - last_used_at < interval '10 seconds' FROM api_keys") == "t"


async def test_an_account_has_so_many_keys_and_no_more_even_at_once(
    start_app: StartApp, sql: RunSql
) -> None:
    instances = [await start_app(api_keys_per_user=3) for _ in range(2)]
    await register(instances[0], "ann")
    token = (await log_in(instances[0], "ann")).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answers = await asyncio.gather(*(make(instances[n % 2], headers) for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 5
    assert sql("SELECT count(*) FROM api_keys") == "3"
    refused = await make(instances[0], headers)
    assert outcome(refused) == (409, "too_many_api_keys")
    key_id = (await instances[0].get(KEYS, headers=headers)).json()["api_keys"][0]["id"]
    await instances[0].delete(f"{KEYS}/{key_id}", headers=headers)
    assert (await make(instances[0], headers)).status_code == 201


async def test_the_default_key_is_replaced_and_revoked(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    headers = await login("ann")
    named = await key_of(client, headers)
    assert outcome(await client.delete(f"{KEYS}/revoke", headers=headers)) == (
        404,
        "api_key_not_found",
    )
    made = []
    for _ in range(2):
        answer = await client.post(f"{KEYS}/generate", headers=headers)
        assert answer.status_code == 200
        assert set(answer.json()) == {"api_key", "message"}
        assert answer.headers["cache-control"] == "no-store"
        made.append({"X-API-Key": answer.json()["api_key"]})
    assert (await client.get(ME, headers=made[0])).status_code == 401
    assert (await client.get(ME, headers=made[1])).status_code == 200
    answer = await client.delete(f"{KEYS}/revoke", headers=headers)
    assert (answer.status_code, set(answer.json())) == (200, {"message"})
    assert (await client.get(ME, headers=made[1])).status_code == 401
    assert (await client.delete(f"{KEYS}/revoke", headers=headers)).status_code == 404
    assert (await client.get(ME, headers=named)).status_code == 200
    answers = await asyncio.gather(
        *(client.post(f"{KEYS}/generate", headers=headers) for _ in range(4))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert sql("SELECT count(*) FROM api_keys WHERE is_default") == "1"


async def test_a_key_manages_neither_keys_nor_sessions_nor_passwords_nor_roles(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    await register(client, "bob")
    headers = await login("root", role="super_admin")
    scopes = [*USER_SCOPES, "items:delete", "users:read", "users:write", "admin"]
    key = await key_of(client, headers, scopes=scopes)
    password = {"current_password": PASSWORD, "new_password": "Better-horse-8"}
    before = sql("SELECT json_agg(u) FROM users AS u"), sql("SELECT count(*) FROM api_keys")
    for method, path, body in (
        ("GET", KEYS, None),
        ("POST", KEYS, {"name": "more"}),
        ("POST", f"{KEYS}/generate", None),
        ("DELETE", f"{KEYS}/revoke", None),
        ("DELETE", f"{KEYS}/1", None),
        ("GET", "/api/v1/auth/sessions", None),
        ("DELETE", "/api/v1/auth/sessions/1", None),
        ("POST", "/api/v1/auth/change-password", password),
        ("POST", "/api/v1/users/verify-email/request", None),
        ("DELETE", ME, None),
        ("PUT", "/api/v1/admin/users/1/role?new_role=admin", None),
    ):
        answer = await client.request(method, path, json=body, headers=key)
        assert outcome(answer) == (403, "session_needed"), path
    assert before == (
        sql("SELECT json_agg(u) FROM users AS u"),
        sql("SELECT count(*) FROM api_keys"),
    )
    assert (await client.post("/api/v1/auth/logout", headers=key)).status_code == 401
    assert (await client.get(ME, headers=headers)).status_code == 200


async def test_the_keys_of_a_deactivated_account_are_gone(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    key = await key_of(client, await login("ann"))
    sql("UPDATE users SET is_active = false")
    assert (await client.get(ME, headers=key)).status_code == 401
    sql("UPDATE users SET is_active = true")
    assert (await client.get(ME, headers=key)).status_code == 200
    root = await login("root", role="admin")
    answer = await client.post("/api/v1/admin/users/1/deactivate", headers=root)
    assert answer.status_code == 200
    sql("UPDATE users SET is_active = true")
    assert (await client.get(ME, headers=key)).status_code == 401
    (event,) = events(sql, "event = 'key.revoked'")
    assert (event["user_id"], event["actor_id"]) == (1, 2)
    assert event["details"] == {"prefix": key["X-API-Key"][:12]}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", f"{KEYS}/generate", None),
        ("PUT", ME, {"email": "thief@example.com"}),
        ("DELETE", ME, None),
        ("POST", CHANGE, {"current_password": PASSWORD, "new_password": NEW}),
    ],
)
async def test_a_session_that_ends_during_a_request_takes_nothing_over(
    client: httpx.AsyncClient,
    login: Login,
    sql: RunSql,
    method: str,
    path: str,
    body: dict[str, str] | None,
) -> None:
    headers = await login("ann")
    # As a password reset does: the account is held while the sessions end.
    slow = (
        "BEGIN; SELECT 1 FROM users FOR UPDATE; SELECT pg_sleep(1); "
        "UPDATE sessions SET ended_at = now(); COMMIT"
    )
    resetting = asyncio.create_task(asyncio.to_thread(sql, slow))
    held = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'harbour' AND wait_event = 'PgSleep'"
    )
    while await asyncio.to_thread(sql, held) == "0":  # noqa: ASYNC110 - the other side is a server
        await asyncio.sleep(0.02)
    answer = await client.request(method, path, json=body, headers=headers)
    await resetting
    assert outcome(answer) == (401, "not_authenticated")
    assert sql("SELECT count(*) FROM api_keys") == "0"
    assert sql("SELECT email, is_active FROM users") == "ann@example.com|t"
    assert sql("SELECT count(*) FROM audit_events WHERE event = 'password.changed'") == "0"
