"""Sessions: refreshing, reuse, ending, and the change of the signing key."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest

from tests.app.conftest import PASSWORD, SECRET, Login, RunSql, StartApp, events, log_in, register

Tokens = dict[str, Any]
OTHER = "another-secret-for-tests-that-is-long-enough-for-each-of-the-algorithms"


async def tokens_of(client: httpx.AsyncClient, name: str = "ann", *, scope: str = "") -> Tokens:
    answer = await log_in(client, name, scope=scope)
    assert answer.status_code == 200, answer.text
    body: Tokens = answer.json()
    return body


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/api/v1/auth/refresh", json={"refresh_token": token})


async def status_of(client: httpx.AsyncClient, access_token: str) -> int:
    headers = {"Authorization": f"Bearer {access_token}"}
    return (await client.get("/api/v1/users/me", headers=headers)).status_code


async def test_a_refresh_token_is_rotated_and_keeps_the_scopes(client: httpx.AsyncClient) -> None:
    await register(client, "ann")
    first = await tokens_of(client, scope="profile:read items:read")
    answer = await refresh(client, first["refresh_token"])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    second = answer.json()
    assert second["scope"] == "profile:read items:read"
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert await status_of(client, second["access_token"]) == 200
    # The access token of before is good until it expires.
    assert await status_of(client, first["access_token"]) == 200


async def test_a_reused_token_ends_its_whole_session_although_the_request_fails(
    start_app: StartApp, sql: RunSql
) -> None:
    client = await start_app(refresh_grace=0)
    await register(client, "ann")
    first = await tokens_of(client)
    other = await tokens_of(client)
    second = (await refresh(client, first["refresh_token"])).json()
    answer = await refresh(client, first["refresh_token"])
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "refresh_token_reused"
    assert "reuse" in answer.json()["error"]["message"]
    for good in (second, first):
        assert await status_of(client, good["access_token"]) == 401
    assert (await refresh(client, second["refresh_token"])).status_code == 401
    # Another login of the same account goes on.
    assert await status_of(client, other["access_token"]) == 200
    assert sql("SELECT end_reason FROM sessions ORDER BY id") == "token_reused"
    # Replays of the dead token are no news.
    for _ in range(3):
        assert (await refresh(client, first["refresh_token"])).status_code == 401
    assert sql("SELECT count(*) FROM audit_events WHERE event = 'token.reused'") == "1"


async def test_two_refreshes_of_one_browser_get_the_same_token(client: httpx.AsyncClient) -> None:
    await register(client, "ann")
    first = await tokens_of(client)
    one, other = await asyncio.gather(*(refresh(client, first["refresh_token"]) for _ in range(2)))
    assert one.status_code == other.status_code == 200
    assert one.json()["refresh_token"] == other.json()["refresh_token"]
    for answer in (one, other):
        assert await status_of(client, answer.json()["access_token"]) == 200


async def test_the_grace_is_over_when_the_successor_was_used(client: httpx.AsyncClient) -> None:
    await register(client, "ann")
    first = await tokens_of(client)
    second = (await refresh(client, first["refresh_token"])).json()
    third = (await refresh(client, second["refresh_token"])).json()
    answer = await refresh(client, first["refresh_token"])
    assert answer.json()["error"]["code"] == "refresh_token_reused"
    assert await status_of(client, third["access_token"]) == 401


async def test_fifty_refreshes_at_once_never_make_two_families(
    start_app: StartApp, sql: RunSql
) -> None:
    instances = [await start_app() for _ in range(2)]
    await register(instances[0], "ann")
    first = await tokens_of(instances[0])
    answers = await asyncio.gather(
        *(refresh(instances[number % 2], first["refresh_token"]) for number in range(50))
    )
    good = [answer.json()["refresh_token"] for answer in answers if answer.status_code == 200]
    assert good
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert len(set(good)) == 1
    assert sql("SELECT count(*) FROM refresh_tokens WHERE used_at IS NULL") == "1"


@pytest.mark.parametrize("token", ["x", "hrt_" + "a" * 43, "hrt_ß\u0000", "a.b.c"])
async def test_an_unknown_refresh_token_is_refused(client: httpx.AsyncClient, token: str) -> None:
    answer = await refresh(client, token)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_refresh_token"


async def test_neither_token_is_taken_for_the_other(client: httpx.AsyncClient) -> None:
    await register(client, "ann")
    tokens = await tokens_of(client)
    assert await status_of(client, tokens["refresh_token"]) == 401
    answer = await refresh(client, tokens["access_token"])
    # It is longer than any refresh token.
    assert answer.status_code in {401, 422}


async def test_an_expired_refresh_token_is_refused(client: httpx.AsyncClient, sql: RunSql) -> None:
    await register(client, "ann")
    tokens = await tokens_of(client)
    sql("UPDATE refresh_tokens SET expires_at = now() - interval '1 second'")
    assert (await refresh(client, tokens["refresh_token"])).status_code == 401


async def test_a_session_ends_at_its_absolute_end(client: httpx.AsyncClient, sql: RunSql) -> None:
    await register(client, "ann")
    tokens = await tokens_of(client)
    ends = "SELECT extract(epoch FROM expires_at - created_at)::int FROM"
    assert sql(f"{ends} sessions") == "2592000"
    assert sql(f"{ends} refresh_tokens") == "604800"
    sql("UPDATE sessions SET expires_at = now() + interval '1 hour'")
    second = (await refresh(client, tokens["refresh_token"])).json()
    left = "SELECT extract(epoch FROM expires_at - now())::int FROM refresh_tokens ORDER BY id DESC"
    assert int(sql(f"{left} LIMIT 1")) <= 3600
    sql("UPDATE sessions SET expires_at = now() - interval '1 second'")
    assert (await refresh(client, second["refresh_token"])).status_code == 401
    assert await status_of(client, second["access_token"]) == 401


async def test_a_refresh_gives_what_the_role_allows_now(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    await login("ann", role="admin")
    tokens = await tokens_of(client)
    assert "admin" in tokens["scope"].split()
    sql("UPDATE users SET role = 'user'")
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await client.get("/api/v1/admin/users", headers=headers)).status_code == 403
    answer = await refresh(client, tokens["refresh_token"])
    assert "admin" not in answer.json()["scope"].split()


async def test_a_deactivated_account_is_not_refreshed(
    client: httpx.AsyncClient, sql: RunSql
) -> None:
    await register(client, "ann")
    tokens = await tokens_of(client)
    sql("UPDATE users SET is_active = false")
    assert (await refresh(client, tokens["refresh_token"])).status_code == 401


async def test_logout_works_at_once_on_every_instance(start_app: StartApp, sql: RunSql) -> None:
    one, other = [await start_app() for _ in range(2)]
    await register(one, "ann")
    tokens = await tokens_of(one)
    kept = await tokens_of(one)
    assert await status_of(other, tokens["access_token"]) == 200
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    body = {"refresh_token": tokens["refresh_token"]}
    answer = await one.post("/api/v1/auth/logout", json=body, headers=headers)
    assert answer.status_code == 204
    assert await status_of(other, tokens["access_token"]) == 401
    assert (await refresh(other, tokens["refresh_token"])).status_code == 401
    assert await status_of(other, kept["access_token"]) == 200
    assert (await one.post("/api/v1/auth/logout", headers=headers)).status_code == 401
    assert sql("SELECT count(*) FROM audit_events WHERE event = 'logout'") == "1"


async def test_logout_takes_either_token(client: httpx.AsyncClient) -> None:
    await register(client, "ann")
    one, other = [await tokens_of(client) for _ in range(2)]
    headers = {"Authorization": f"Bearer {one['access_token']}"}
    assert (await client.post("/api/v1/auth/logout", headers=headers)).status_code == 204
    body = {"refresh_token": other["refresh_token"]}
    assert (await client.post("/api/v1/auth/logout", json=body)).status_code == 204
    for tokens in (one, other):
        assert await status_of(client, tokens["access_token"]) == 401
    assert (await client.post("/api/v1/auth/logout")).status_code == 401


async def test_the_owner_sees_and_ends_sessions(client: httpx.AsyncClient) -> None:
    await register(client, "ann")
    await register(client, "bob")
    one, other = [await tokens_of(client) for _ in range(2)]
    stranger = await tokens_of(client, "bob")
    headers = {"Authorization": f"Bearer {one['access_token']}"}
    listed = (await client.get("/api/v1/auth/sessions", headers=headers)).json()["sessions"]
    assert [(one_["id"], one_["current"]) for one_ in listed] == [(2, False), (1, True)]
    assert listed[0]["client_address"] == "192.0.2.7"
    assert listed[0]["user_agent"].startswith("python-httpx")
    assert not any("token" in key for key in listed[0])
    for unknown in (3, 99):
        answer = await client.delete(f"/api/v1/auth/sessions/{unknown}", headers=headers)
        assert answer.status_code == 404
    answer = await client.delete("/api/v1/auth/sessions/2", headers=headers)
    assert answer.status_code == 204
    assert await status_of(client, other["access_token"]) == 401
    assert await status_of(client, stranger["access_token"]) == 200
    assert await status_of(client, one["access_token"]) == 200


async def test_a_session_ends_when_it_was_not_used_for_as_long_as_its_refresh_token(
    client: httpx.AsyncClient, sql: RunSql
) -> None:
    await register(client, "ann")
    _, late, used = [await tokens_of(client) for _ in range(3)]
    for number, age in ((1, "7 days"), (2, "6 days 23 hours"), (3, "8 days")):
        past = f"last_used_at = now() - interval '{age}', created_at = now() - interval '{age}'"
        sql(f"UPDATE sessions SET {past} WHERE id = {number}")
    sql("UPDATE sessions SET expires_at = now() + interval '1 day' WHERE id = 3")
    # It was late, but its token is good: a rotation keeps the session.
    assert (await refresh(client, used["refresh_token"])).status_code == 200
    resources = client.application.state.resources  # type: ignore[attr-defined]
    assert await resources.identities.going_on([1, 2, 3]) == {2, 3}
    headers = {"Authorization": f"Bearer {late['access_token']}"}
    listed = (await client.get("/api/v1/auth/sessions", headers=headers)).json()["sessions"]
    assert [one["id"] for one in listed] == [3, 2]
    left = [
        (datetime.fromisoformat(one["expires_at"]) - datetime.now(UTC)).total_seconds()
        for one in listed
    ]
    assert left == [pytest.approx(86_400, abs=60), pytest.approx(3600, abs=60)]


async def test_a_session_tells_the_end_of_its_newest_refresh_token(
    client: httpx.AsyncClient, sql: RunSql
) -> None:
    await register(client, "ann")
    tokens = await tokens_of(client)
    for _ in range(2):
        tokens = (await refresh(client, tokens["refresh_token"])).json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        (one,) = (await client.get("/api/v1/auth/sessions", headers=headers)).json()["sessions"]
        newest = sql("SELECT max(extract(epoch FROM expires_at)) FROM refresh_tokens")
        told = datetime.fromisoformat(one["expires_at"]).timestamp()
        assert told == pytest.approx(float(newest), abs=0.001)


async def test_changing_the_password_ends_the_other_sessions(
    client: httpx.AsyncClient, sql: RunSql
) -> None:
    await register(client, "ann")
    one, other = [await tokens_of(client) for _ in range(2)]
    headers = {"Authorization": f"Bearer {one['access_token']}"}
    change = {"current_password": "Wrong-horse-7", "new_password": "Better-horse-8"}
    path = "/api/v1/auth/change-password"
    refused = await client.post(path, json=change, headers=headers)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "incorrect_password"
    weak = {"current_password": PASSWORD, "new_password": "password"}
    answer = await client.post(path, json=weak, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "new_password"]
    change["current_password"] = PASSWORD
    assert (await client.post(path, json=change, headers=headers)).status_code == 204
    assert await status_of(client, one["access_token"]) == 200
    assert await status_of(client, other["access_token"]) == 401
    assert (await log_in(client, "ann")).status_code == 401
    assert (await log_in(client, "ann", "Better-horse-8")).status_code == 200
    assert "recovery.tell_password_changed" in sql("SELECT task_name FROM procrastinate_jobs")


async def test_guesses_at_the_current_password_are_counted(
    client: httpx.AsyncClient, sql: RunSql
) -> None:
    await register(client, "ann")
    tokens = await tokens_of(client)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    change = {"current_password": "Wrong-horse-7", "new_password": "Better-horse-8"}
    path = "/api/v1/auth/change-password"
    for _ in range(5):
        assert (await client.post(path, json=change, headers=headers)).status_code == 403
    change["current_password"] = PASSWORD
    assert (await client.post(path, json=change, headers=headers)).status_code == 403
    # The login is another matter: whoever has taken a session cannot lock the owner out by it.
    assert (await log_in(client, "ann")).status_code == 200
    assert sql("SELECT count(*) FROM audit_events WHERE event = 'password.refused'") == "6"
    (locked,) = events(sql, "event = 'account.locked'")
    assert (locked["user_id"], locked["actor_id"]) == (1, 1)
    assert locked["details"] == {"secret": "current_password"}


async def test_one_session_too_many_ends_the_one_unused_longest(
    start_app: StartApp, sql: RunSql
) -> None:
    client = await start_app(sessions_per_user=2)
    await register(client, "ann")
    first, second = [await tokens_of(client) for _ in range(2)]
    assert (await refresh(client, first["refresh_token"])).status_code == 200
    assert events(sql, "event = 'session.ended'") == []
    third = await tokens_of(client)
    tokens = [one["access_token"] for one in (first, second, third)]
    assert [await status_of(client, one) for one in tokens] == [200, 401, 200]
    (ended,) = events(sql, "event = 'session.ended'")
    assert (ended["user_id"], ended["actor_id"]) == (1, 1)
    assert ended["details"] == {"session": 2, "reason": "too_many"}


async def test_the_signing_key_is_changed_without_logging_anyone_out(start_app: StartApp) -> None:
    before = await start_app()
    await register(before, "ann")
    tokens = await tokens_of(before)
    # First every host accepts the next key, then it signs, then the former one goes.
    prepared = await start_app(token_accepted_secret=OTHER)
    after = await start_app(token_secret=OTHER, token_accepted_secret=SECRET)
    assert await status_of(after, tokens["access_token"]) == 200
    renewed = (await refresh(after, tokens["refresh_token"])).json()
    assert await status_of(prepared, renewed["access_token"]) == 200
    # A refresh that was under way on a host with the former key is the same one.
    assert (await refresh(prepared, tokens["refresh_token"])).json()["refresh_token"] == (
        renewed["refresh_token"]
    )
    done = await start_app(token_secret=OTHER)
    assert await status_of(done, tokens["access_token"]) == 401
    assert await status_of(done, renewed["access_token"]) == 200
    assert (await refresh(done, renewed["refresh_token"])).status_code == 200
    assert (
        jwt.get_unverified_header(renewed["access_token"])["kid"]
        != (jwt.get_unverified_header(tokens["access_token"])["kid"])
    )
