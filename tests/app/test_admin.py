"""What administrators may do, and to whom."""

from typing import Any

import httpx
import pytest

from tests.app.conftest import PASSWORD, Login, RunSql, events, log_in, register
from tests.app.test_lockout import WRONG
from tests.app.test_sessions import refresh, status_of, tokens_of

USERS = "/api/v1/admin/users"
ME = "/api/v1/users/me"


def outcome(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def names(client: httpx.AsyncClient, headers: dict[str, str], **query: Any) -> list[str]:
    answer = await client.get(USERS, params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return [one["username"] for one in answer.json()["users"]]


@pytest.mark.parametrize("role", ["user", "moderator"])
async def test_only_administrators_administer(
    client: httpx.AsyncClient, login: Login, role: str
) -> None:
    headers = await login("ann", role=role)
    for method, path in (
        ("GET", USERS),
        ("PUT", f"{USERS}/1/role?new_role=admin"),
        ("POST", f"{USERS}/1/deactivate"),
        ("POST", f"{USERS}/1/unlock"),
        ("DELETE", f"{USERS}/1/sessions"),
        ("GET", "/api/v1/admin/dashboard"),
        ("GET", "/api/v1/admin/audit"),
    ):
        assert (await client.request(method, path, headers=headers)).status_code == 403
        assert (await client.request(method, path)).status_code == 401


async def test_a_token_of_an_administrator_needs_the_scopes_too(
    client: httpx.AsyncClient, login: Login
) -> None:
    headers = await login("root", role="admin", scope="admin")
    assert outcome(await client.get(USERS, headers=headers)) == (403, "insufficient_scope")
    answer = await client.post(f"{USERS}/1/unlock", headers=headers)
    assert outcome(answer) == (403, "insufficient_scope")


async def test_accounts_are_listed_in_pages_and_found(
    client: httpx.AsyncClient, login: Login
) -> None:
    for name in ("a.under_score", "a.underscore", "percent"):
        await register(client, name)
    headers = await login("root", role="admin")
    await client.put(ME, json={"full_name": "Rosa 100% Luxemburg"}, headers=headers)
    assert await names(client, headers, skip=1, limit=2) == ["a.underscore", "percent"]
    answer = await client.get(USERS, params={"skip": 1, "limit": 2}, headers=headers)
    assert {key: answer.json()[key] for key in ("total", "skip", "limit")} == {
        "total": 4,
        "skip": 1,
        "limit": 2,
    }
    assert "password" not in answer.text
    assert await names(client, headers, search="R_S") == ["a.under_score"]
    assert await names(client, headers, search="0%") == ["root"]
    assert await names(client, headers, search="%") == ["root"]
    assert await names(client, headers, search="LUXEM") == ["root"]
    assert await names(client, headers, search="percent@example.com") == ["percent"]
    assert await names(client, headers, search="/") == []
    for name in ("ΟΔΟΣ", "İstanbul"):
        await client.put(ME, json={"full_name": f"Rosa {name}"}, headers=headers)
        assert await names(client, headers, search=name) == ["root"]
    for wrong in ({"limit": 101}, {"limit": 0}, {"skip": -1}, {"search": "nul\x00"}):
        answer = await client.get(USERS, params=wrong, headers=headers)
        assert answer.status_code == 422


async def test_the_dashboard_counts(client: httpx.AsyncClient, login: Login, sql: RunSql) -> None:
    for name in ("ann", "bob", "cid"):
        await register(client, name)
    sql("UPDATE users SET is_active = false WHERE username = 'bob'")
    sql("UPDATE users SET role = 'moderator' WHERE username = 'cid'")
    headers = await login("root", role="admin")
    answer = await client.get("/api/v1/admin/dashboard", headers=headers)
    assert answer.json() == {
        "total_users": 4,
        "active_users": 3,
        "inactive_users": 1,
        "users_by_role": {"user": 2, "moderator": 1, "admin": 1, "super_admin": 0},
    }


async def test_a_role_is_changed_and_counts_at_once(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    ann = await login("ann")
    root = await login("root", role="admin")
    answer = await client.put(f"{USERS}/1/role?new_role=admin", headers=root)
    assert (answer.status_code, answer.json()["role"]) == (200, "admin")
    assert (await log_in(client, "ann")).json()["scope"].split()[-1] == "admin"
    for _ in range(2):
        answer = await client.put(f"{USERS}/1/role?new_role=moderator", headers=root)
        assert (answer.status_code, answer.json()["role"]) == (200, "moderator")
    assert (await client.get(USERS, headers=ann)).status_code == 403
    found = events(sql, "event = 'account.role_changed'")
    assert [(one["user_id"], one["actor_id"], one["details"]) for one in found] == [
        (1, 2, {"old_role": "user", "new_role": "admin"}),
        (1, 2, {"old_role": "admin", "new_role": "moderator"}),
    ]


@pytest.mark.parametrize("role", ["admin", "super_admin"])
async def test_nobody_touches_the_own_role_or_a_super_administrator(
    client: httpx.AsyncClient, login: Login, sql: RunSql, role: str
) -> None:
    await register(client, "ann")
    await login("other", role="super_admin")
    root = await login("root", role=role)
    before = sql("SELECT json_agg(u ORDER BY id) FROM users AS u")
    for user_id, path, expected in (
        (3, "role?new_role=user", (400, "own_role")),
        (3, "role?new_role=super_admin", (400, "own_role")),
        (1, "role?new_role=super_admin", (403, "super_admin_protected")),
        (2, "role?new_role=user", (403, "super_admin_protected")),
        (99, "role?new_role=user", (404, "user_not_found")),
        (1, "role?new_role=king", (422, "validation_error")),
    ):
        answer = await client.put(f"{USERS}/{user_id}/{path}", headers=root)
        assert outcome(answer) == expected
    for user_id, expected in (
        (3, (400, "own_account")),
        (2, (403, "super_admin_protected")),
        (99, (404, "user_not_found")),
    ):
        answer = await client.post(f"{USERS}/{user_id}/deactivate", headers=root)
        assert outcome(answer) == expected
    for user_id, expected in (
        (2, (403, "super_admin_protected")),
        (99, (404, "user_not_found")),
    ):
        answer = await client.delete(f"{USERS}/{user_id}/sessions", headers=root)
        assert outcome(answer) == expected
    for user_id, expected in (
        (2, (403, "super_admin_protected")),
        (99, (404, "user_not_found")),
    ):
        answer = await client.post(f"{USERS}/{user_id}/unlock", headers=root)
        assert outcome(answer) == expected
    # The own account, whoever it is.
    assert (await client.post(f"{USERS}/3/unlock", headers=root)).status_code == 200
    assert sql("SELECT json_agg(u ORDER BY id) FROM users AS u") == before
    assert sql("SELECT count(*) FROM sessions WHERE ended_at IS NOT NULL") == "0"


async def test_a_deactivated_account_is_out_at_once(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    await login("ann")
    tokens = await tokens_of(client)
    root = await login("root", role="admin")
    for _ in range(2):
        answer = await client.post(f"{USERS}/1/deactivate", headers=root)
        assert (answer.status_code, answer.json()["is_active"]) == (200, False)
    assert await status_of(client, tokens["access_token"]) == 401
    assert (await refresh(client, tokens["refresh_token"])).status_code == 401
    assert (await log_in(client, "ann")).status_code == 401
    (event,) = events(sql, "event = 'account.deactivated'")
    assert (event["user_id"], event["actor_id"]) == (1, 2)


async def test_a_locked_account_is_unlocked(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    await register(client, "ann")
    root = await login("root", role="admin")
    for _ in range(5):
        await log_in(client, "Ann", WRONG)
    assert (await log_in(client, "ann", PASSWORD)).status_code == 401
    assert (await client.post(f"{USERS}/1/unlock", headers=root)).status_code == 200
    assert (await log_in(client, "ann", PASSWORD)).status_code == 200
    (event,) = events(sql, "event = 'account.unlocked'")
    assert (event["user_id"], event["actor_id"]) == (1, 2)


async def test_unlocking_counts_for_the_change_of_the_password_too(
    client: httpx.AsyncClient, login: Login
) -> None:
    ann, root = await login("ann"), await login("root", role="admin")
    change = {"current_password": WRONG, "new_password": "Better-horse-8"}
    path = "/api/v1/auth/change-password"
    for _ in range(5):
        assert (await client.post(path, json=change, headers=ann)).status_code == 403
    change["current_password"] = PASSWORD
    assert (await client.post(path, json=change, headers=ann)).status_code == 403
    assert (await client.post(f"{USERS}/1/unlock", headers=root)).status_code == 200
    assert (await client.post(path, json=change, headers=ann)).status_code == 204


async def test_the_sessions_of_an_account_are_ended(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    ann = await login("ann")
    await log_in(client, "ann")
    root = await login("root", role="admin")
    answer = await client.delete(f"{USERS}/1/sessions", headers=root)
    assert (answer.status_code, answer.json()) == (200, {"ended_sessions": 2})
    assert (await client.get(ME, headers=ann)).status_code == 401
    assert (await client.get(ME, headers=root)).status_code == 200
    (event,) = events(sql, "event = 'session.ended_all'")
    assert (event["user_id"], event["actor_id"]) == (1, 2)
    assert event["details"] == {"ended_sessions": 2}
    # The own ones too.
    assert (await client.delete(f"{USERS}/2/sessions", headers=root)).status_code == 200
    assert (await client.get(ME, headers=root)).status_code == 401
