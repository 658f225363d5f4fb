"""The own account: its name, its address and its end."""

from typing import Any

import httpx
import pytest

from tests.app.conftest import PASSWORD, Login, Post, RunSql, events, log_in, register, text_of
from tests.app.test_lockout import WRONG
from tests.app.test_sessions import refresh, status_of, tokens_of

ME = "/api/v1/users/me"


async def change(
    client: httpx.AsyncClient, headers: dict[str, str], **values: Any
) -> httpx.Response:
    return await client.put(ME, json=values, headers=headers)


async def key_of(client: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, str]:
    answer = await client.post("/api/v1/api-keys/generate", headers=headers)
    return {"X-API-Key": answer.json()["api_key"]}


async def test_the_name_is_changed_by_a_session_and_by_a_key(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    headers = await login("ann")
    sql("UPDATE users SET email_verified_at = now()")
    answer = await change(client, headers, full_name="  Ann Smith ")
    assert (answer.status_code, answer.json()["full_name"]) == (200, "Ann Smith")
    answer = await change(client, await key_of(client, headers), full_name="Ann Jones")
    assert (answer.status_code, answer.json()["full_name"]) == (200, "Ann Jones")
    assert answer.json()["email_verified"] is True
    for unchanged in ({}, {"email": "Ann@example.com"}):
        answer = await change(client, headers, **unchanged)
        assert (answer.status_code, answer.json()["full_name"]) == (200, "Ann Jones")
    assert sql("SELECT email_verified_at IS NOT NULL FROM users") == "t"
    assert events(sql, "event = 'account.email_changed'") == []


@pytest.mark.parametrize(
    ("taken", "asked"),
    [
        ("bob@example.com", "bob@example.com"),
        ("bob@example.com", "BOB@Example.COM"),
        ("bob@straße.de", "bob@xn--strae-oqa.de"),
        ("bob@xn--strae-oqa.de", "Bob@Straße.de"),
    ],
)
async def test_an_address_of_somebody_else_is_refused_in_every_spelling(
    client: httpx.AsyncClient, login: Login, taken: str, asked: str
) -> None:
    account = {"username": "bob", "email": taken, "password": PASSWORD}
    assert (await client.post("/api/v1/users/register", json=account)).status_code == 201
    headers = await login("ann")
    answer = await change(client, headers, email=asked, full_name="Not this")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "email_taken")
    assert (await client.get(ME, headers=headers)).json()["full_name"] == "Somebody"


async def test_a_domain_is_kept_apart_from_the_one_that_looks_like_it(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    account = {"username": "bob", "email": "ann@strasse.de", "password": PASSWORD}
    assert (await client.post("/api/v1/users/register", json=account)).status_code == 201
    answer = await change(client, await login("ann"), email="Ann@Straße.de")
    assert answer.status_code == 200
    assert answer.json()["email"] == "ann@xn--strae-oqa.de"
    assert sql("SELECT email FROM users WHERE username = 'ann'") == "ann@xn--strae-oqa.de"


@pytest.mark.parametrize("address", ["änn@example.com", "ann@a..b", "ann", "ann@example.com\nx"])
async def test_what_is_no_address_is_refused(
    client: httpx.AsyncClient, login: Login, address: str
) -> None:
    answer = await change(client, await login("ann"), email=address)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "validation_error")
    assert answer.json()["detail"][0]["loc"] == ["body", "email"]


async def test_another_address_has_to_be_verified_and_the_old_one_is_told(
    client: httpx.AsyncClient, login: Login, post: Post, sql: RunSql
) -> None:
    headers = await login("ann")
    await post.mails(1)
    sql("UPDATE users SET email_verified_at = now()")
    answer = await change(client, headers, email="anna@elsewhere.example")
    assert answer.status_code == 200
    assert (answer.json()["email"], answer.json()["email_verified"]) == (
        "anna@elsewhere.example",
        False,
    )
    await post.mails(3)
    by_address = dict(zip(post.inbox.recipients[1:], post.inbox.messages[1:], strict=True))
    told = text_of(by_address["ann@example.com"])
    assert "a…@elsewhere.example" in told
    assert "anna@" not in told
    asks = text_of(by_address["anna@elsewhere.example"])
    (token,) = [word for word in asks.split() if word.startswith("hmt_")]
    verified = await client.post("/api/v1/users/verify-email", json={"token": token})
    assert verified.json()["email_verified"] is True
    (event,) = events(sql, "event = 'account.email_changed'")
    assert (event["user_id"], event["actor_id"]) == (1, 1)
    assert "elsewhere" not in str(event)


async def test_another_address_needs_a_login_of_a_few_minutes_ago_or_the_password(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    headers = await login("ann")
    sql("UPDATE sessions SET created_at = now() - interval '299 seconds'")
    assert (await change(client, headers, email="one@example.com")).status_code == 200
    sql("UPDATE sessions SET created_at = now() - interval '301 seconds'")
    answer = await change(client, headers, email="two@example.com")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "reauthentication_needed")
    wrong = await change(client, headers, email="two@example.com", current_password=WRONG)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (403, "incorrect_password")
    right = await change(client, headers, email="two@example.com", current_password=PASSWORD)
    assert (right.status_code, right.json()["email"]) == (200, "two@example.com")
    assert (await change(client, headers, full_name="Ann")).status_code == 200


async def test_a_refresh_is_no_login(client: httpx.AsyncClient, sql: RunSql) -> None:
    await register(client, "ann")
    tokens = await tokens_of(client)
    sql("UPDATE sessions SET created_at = now() - interval '1 hour'")
    renewed = (await refresh(client, tokens["refresh_token"])).json()["access_token"]
    headers = {"Authorization": f"Bearer {renewed}"}
    answer = await change(client, headers, email="two@example.com")
    assert answer.json()["error"]["code"] == "reauthentication_needed"


@pytest.mark.parametrize("password", [None, PASSWORD, WRONG])
async def test_a_key_does_not_change_the_address_even_with_the_password(
    client: httpx.AsyncClient, login: Login, sql: RunSql, password: str | None
) -> None:
    key = await key_of(client, await login("ann"))
    answer = await change(client, key, email="two@example.com", current_password=password)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "session_needed")
    assert sql("SELECT email FROM users") == "ann@example.com"
    # It cannot be used to guess either.
    assert events(sql, "event = 'password.refused'") == []


async def test_a_key_and_a_token_need_the_scope(client: httpx.AsyncClient, login: Login) -> None:
    headers = await login("ann", scope="profile:read")
    answer = await change(client, headers, full_name="Ann")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")


async def test_guesses_at_taken_addresses_are_limited(start_app: Any, sql: RunSql) -> None:
    client = await start_app(limit_profile="2/hour")
    await register(client, "ann")
    headers = {"Authorization": f"Bearer {(await tokens_of(client))['access_token']}"}
    for expected in (200, 200, 429):
        assert (await change(client, headers, full_name="Ann")).status_code == expected


async def test_who_leaves_is_logged_out_everywhere(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    bystander = await login("bob")
    await register(client, "ann")
    one, other = [await tokens_of(client) for _ in range(2)]
    headers = {"Authorization": f"Bearer {one['access_token']}"}
    key = await key_of(client, headers)
    assert (await client.delete(ME, headers=key)).status_code == 403
    assert (await client.delete(ME, headers=headers)).status_code == 204
    for tokens in (one, other):
        assert await status_of(client, tokens["access_token"]) == 401
        assert (await refresh(client, tokens["refresh_token"])).status_code == 401
    assert (await client.get(ME, headers=key)).status_code == 401
    assert (await log_in(client, "ann")).status_code == 401
    assert (await client.get(ME, headers=bystander)).status_code == 200
    assert sql("SELECT is_active FROM users WHERE username = 'ann'") == "f"
    assert sql("SELECT count(*) FROM api_keys") == "0"
    (event,) = events(sql, "event = 'account.deactivated'")
    assert (event["user_id"], event["actor_id"]) == (2, 2)
    # The name stays taken: nobody becomes what somebody else was.
    assert (await register(client, "ann")).status_code == 409


async def test_a_super_administrator_is_not_closed_by_a_request(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    """It may be the last one, and only the console of the host makes another."""
    root = await login("root", role="super_admin")
    answer = await client.delete(ME, headers=root)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "super_admin_protected")
    assert (await client.get(ME, headers=root)).status_code == 200
    assert sql("SELECT role, is_active FROM users") == "super_admin|t"
    assert events(sql, "event = 'account.deactivated'") == []
