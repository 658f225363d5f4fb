"""Accounts."""

import asyncio
import json

import httpx
import pytest

from tests.app.conftest import PASSWORD, Login, RunSql, StartApp, log_in, register


async def test_registering_gives_an_account_without_its_password(client: httpx.AsyncClient) -> None:
    answer = await register(client, "ann")
    assert answer.status_code == 201
    body = answer.json()
    assert {**body, "created_at": None} == {
        "id": 1,
        "username": "ann",
        "email": "ann@example.com",
        "full_name": "Somebody",
        "role": "user",
        "is_active": True,
        "email_verified": False,
        "created_at": None,
    }
    assert body["created_at"].endswith("Z")


async def test_a_password_is_stored_as_argon2id_with_owasp_parameters(
    client: httpx.AsyncClient, sql: RunSql
) -> None:
    await register(client, "ann")
    assert sql("SELECT password_hash FROM users").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize(
    ("username", "email", "code"),
    [
        ("ann", "other@example.com", "username_taken"),
        ("ANN", "other@example.com", "username_taken"),
        ("bob", "ann@example.com", "email_taken"),
        ("bob", "Ann@Example.com", "email_taken"),
    ],
)
async def test_a_taken_name_or_address_is_refused(
    client: httpx.AsyncClient, username: str, email: str, code: str
) -> None:
    await register(client, "ann")
    account = {"username": username, "email": email, "password": PASSWORD}
    answer = await client.post("/api/v1/users/register", json=account)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == code


async def test_only_one_of_many_that_register_the_same_name_at_once_gets_it(
    client: httpx.AsyncClient, sql: RunSql
) -> None:
    answers = await asyncio.gather(*(register(client, "ann") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert sql("SELECT count(*) FROM users") == "1"


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("Short-1", "8 to 128"),
        ("Aa1-" * 33, "8 to 128"),
        ("correct-horse-7", "upper-case"),
        ("CORRECT-HORSE-7", "lower-case"),
        ("Correct-horse", "digit"),
        ("Correcthorse7", "symbol"),
        ("Password1!", "tried first"),
        ("Wendy-99!", "your own name"),
        ("Darling-99!", "your own name"),
        ("1-aNgElA-x", "your own name"),
        ("9-straße-Z!", "your own name"),
        ("Harbour-26!", "service's name"),
        ("1qaz@WSX", "tried first"),
    ],
)
async def test_a_weak_password_is_refused_with_the_reason(
    client: httpx.AsyncClient, password: str, reason: str
) -> None:
    account = {
        "username": "wendy",
        "email": "w@example.com",
        "password": password,
        "full_name": "Moira-Angela O. Darling Straße",
    }
    answer = await client.post("/api/v1/users/register", json=account)
    assert answer.status_code == 422
    body = answer.json()
    assert body["error"]["code"] == "weak_password"
    assert reason in body["detail"][0]["msg"]
    assert body["detail"][0]["loc"] == ["body", "password"]
    assert password not in answer.text


@pytest.mark.parametrize("password", ["Li-Bo-Wu-77!", "Correct-lin-horse-7", "Lin1-Correct"])
async def test_a_small_part_of_the_name_makes_no_password_weak(
    client: httpx.AsyncClient, password: str
) -> None:
    account = {
        "username": "wendy",
        "email": "w@example.com",
        "password": password,
        "full_name": "Li Bo Wu Lin",
    }
    answer = await client.post("/api/v1/users/register", json=account)
    assert answer.status_code == 201, answer.text


async def test_the_classes_of_characters_can_be_turned_off(start_app: StartApp) -> None:
    client = await start_app(password_require_classes=False)
    account = {"username": "ann", "email": "a@example.com", "password": "correct horse battery"}
    answer = await client.post("/api/v1/users/register", json=account)
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "change",
    [
        {"username": "x"},
        {"username": "with space"},
        {"username": "new\nline"},
        {"username": "ann\n"},
        {"email": "no address"},
        {"full_name": "nul \x00"},
        {"full_name": "Ann,\n\nyour account is locked: http://evil.example"},
        {"full_name": "Ann\rBob"},
        {"full_name": "Ann\tBob"},
        {"full_name": "Ann\x1b[31m"},
        {"full_name": "Ann\x85Bob"},
        {"full_name": "Ann\u2028Bob"},
        {"full_name": "Ann\u2029Bob"},
        {"full_name": "\ud800"},
        {"password": None},
    ],
)
async def test_a_field_that_does_not_fit_is_refused_without_repeating_it(
    client: httpx.AsyncClient, change: dict[str, str | None]
) -> None:
    account = {"username": "ann", "email": "a@example.com", "password": PASSWORD, **change}
    # httpx cannot encode half a character; JSON's escapes can.
    answer = await client.post(
        "/api/v1/users/register",
        content=json.dumps(account),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422
    body = answer.json()
    assert body["error"]["code"] == "validation_error"
    assert [problem["loc"][-1] for problem in body["detail"]] == list(change)
    assert "input" not in body["detail"][0]


async def test_me_is_the_account_of_the_token(client: httpx.AsyncClient, login: Login) -> None:
    await register(client, "other")
    answer = await client.get("/api/v1/users/me", headers=await login("ann"))
    assert answer.status_code == 200
    assert answer.json()["username"] == "ann"


async def test_a_token_without_the_scope_does_not_read_the_profile(
    client: httpx.AsyncClient, login: Login
) -> None:
    headers = await login("ann", scope="items:read")
    answer = await client.get("/api/v1/users/me", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "insufficient_scope"
    assert "profile:read" in answer.json()["error"]["message"]


async def test_a_deactivated_account_is_locked_out_at_once(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    headers = await login("ann")
    sql("UPDATE users SET is_active = false")
    assert (await client.get("/api/v1/users/me", headers=headers)).status_code == 401
    assert (await log_in(client, "ann")).status_code == 401


async def test_a_deleted_account_is_locked_out_at_once(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    headers = await login("ann")
    sql("DELETE FROM users")
    assert (await client.get("/api/v1/users/me", headers=headers)).status_code == 401


async def test_a_name_of_former_days_is_shown_and_can_be_changed(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    headers = await login("ann")
    sql(r"UPDATE users SET full_name = E'Ann\nBob'")
    answer = await client.get("/api/v1/users/me", headers=headers)
    assert (answer.status_code, answer.json()["full_name"]) == (200, "Ann\nBob")
    answer = await client.put(
        "/api/v1/users/me", json={"email": "ann@other.example"}, headers=headers
    )
    assert answer.status_code == 200
    answer = await client.put("/api/v1/users/me", json={"full_name": "Ann"}, headers=headers)
    assert answer.json()["full_name"] == "Ann"
