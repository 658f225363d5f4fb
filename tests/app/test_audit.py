"""The audit trail: complete, in two places, without secrets, and for good."""

import asyncio
import json
import subprocess
from collections import Counter
from typing import Any

import httpx
import pytest

from app.accounts import Origin
from app.audit import Event, record
from app.job_handlers import clean_up
from app.jobs.handlers import JobResources
from app.mail import Mailer
from app.resources import Resources
from tests.app.conftest import PASSWORD, Login, RunSql, StartApp, events, log_in, register
from tests.app.test_lockout import WRONG
from tests.app.test_sessions import refresh, tokens_of
from tests.services import PostgreSQL

AUDIT = "/api/v1/admin/audit"
NEW = "Better-horse-8"


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [line for line in lines if line["event"] == "audit"]


async def test_every_security_event_is_in_the_table_and_in_the_log(
    start_app: StartApp, sql: RunSql, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await start_app(log_output="json", refresh_grace=0, limit_profile="1/hour")
    auth, keys, admin = "/api/v1/auth", "/api/v1/api-keys", "/api/v1/admin/users"
    secrets = [PASSWORD, NEW, WRONG]

    async def header(name: str, password: str = PASSWORD) -> dict[str, str]:
        tokens = (await log_in(client, name, password)).json()
        secrets.extend((tokens["access_token"], tokens["refresh_token"]))
        return {"Authorization": f"Bearer {tokens['access_token']}"}

    await register(client, "root")
    sql("UPDATE users SET role = 'admin'")
    root = await header("root")
    await register(client, "ann")
    first = await tokens_of(client)
    secrets.append((await refresh(client, first["refresh_token"])).json()["refresh_token"])
    await refresh(client, first["refresh_token"])
    ann = await header("ann")
    change = {"current_password": WRONG, "new_password": NEW}
    await client.post(f"{auth}/change-password", json=change, headers=ann)
    change["current_password"] = PASSWORD
    await client.post(f"{auth}/change-password", json=change, headers=ann)
    secrets.append((await client.post(f"{keys}/generate", headers=ann)).json()["api_key"])
    await client.delete(f"{keys}/revoke", headers=ann)
    for _ in range(2):
        await client.put("/api/v1/users/me", json={"email": "a@example.com"}, headers=ann)
    await client.get(admin, headers=ann)
    await client.post(f"{auth}/logout", headers=ann)
    for _ in range(5):
        await log_in(client, "ann", WRONG)
    await client.put(f"{admin}/2/role?new_role=moderator", headers=root)
    await client.post(f"{admin}/2/unlock", headers=root)
    ann = await header("ann", NEW)
    await client.delete(f"{auth}/sessions/4", headers=ann)
    await client.delete(f"{admin}/2/sessions", headers=root)
    await client.post(f"{admin}/2/deactivate", headers=root)
    stored = events(sql)
    assert Counter(one["event"] for one in stored) == {
        "account.registered": 2,
        "login.succeeded": 4,
        "token.refreshed": 1,
        "token.reused": 1,
        "password.refused": 1,
        "password.changed": 1,
        "key.created": 1,
        "key.revoked": 1,
        "account.email_changed": 1,
        "limit.exceeded": 1,
        # The current password, and the list of accounts.
        "access.forbidden": 2,
        "logout": 1,
        "login.failed": 5,
        "account.locked": 1,
        "account.role_changed": 1,
        "account.unlocked": 1,
        "session.ended": 1,
        "session.ended_all": 1,
        "account.deactivated": 1,
    }
    lines = told(capsys)
    assert [
        (
            line["audit_event"],
            line["audit_user_id"],
            line["audit_actor_id"],
            line["client_address"],
            line["request_id"],
            {key: line[f"audit_{key}"] for key in one["details"]},
        )
        for line, one in zip(lines, stored, strict=True)
    ] == [
        (
            one["event"],
            one["user_id"],
            one["actor_id"],
            "192.0.2.7",
            one["request_id"],
            one["details"],
        )
        for one in stored
    ]
    assert {line["audit_event"] for line in lines if line["level"] == "warning"} == {
        "token.reused",
        "account.locked",
        "access.forbidden",
        "limit.exceeded",
    }
    everything = json.dumps([stored, lines])
    for secret in (*secrets, "a@example.com", "ann@example.com", "argon2"):
        assert secret not in everything


async def test_what_is_rolled_back_is_told_to_nobody(
    start_app: StartApp, sql: RunSql, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await start_app(log_output="json")
    application: Any = client.application  # type: ignore[attr-defined]
    resources: Resources = application.state.resources

    async def act(name: str, *, fails: bool) -> None:
        async with resources.database.writing() as session:
            await record(session, Event(name, Origin()))
            if fails:
                raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        await act("rolled.back", fails=True)
    await act("carried.out", fails=False)
    # A change that the database itself refuses at the end of a request.
    await register(client, "ann")
    assert (await register(client, "ann")).status_code == 409
    names = ["carried.out", "account.registered"]
    assert [one["event"] for one in events(sql)] == names
    assert [line["audit_event"] for line in told(capsys)] == names


async def test_a_flood_of_refusals_is_written_once_a_minute(
    start_app: StartApp, login: Login, sql: RunSql
) -> None:
    client = await start_app(limit_search="2/minute")
    ann, bob = await login("ann"), await login("bob")
    for headers in (ann, bob):
        for _ in range(5):
            assert (await client.get(AUDIT, headers=headers)).status_code == 403
            assert (await client.get("/api/v1/admin/users", headers=headers)).status_code == 403
    statuses = [(await client.get("/api/v1/items?search=x")).status_code for _ in range(5)]
    assert statuses == [200, 200, 429, 429, 429]
    found = events(sql, "event IN ('access.forbidden', 'limit.exceeded')")
    assert [(one["event"], one["user_id"], one["details"]["route"]) for one in found] == [
        ("access.forbidden", 1, "GET /api/v1/admin/audit"),
        ("access.forbidden", 1, "GET /api/v1/admin/users"),
        ("access.forbidden", 2, "GET /api/v1/admin/audit"),
        ("access.forbidden", 2, "GET /api/v1/admin/users"),
        ("limit.exceeded", None, "GET /api/v1/items"),
    ]


async def test_the_trail_is_read_in_pages_and_filtered(
    client: httpx.AsyncClient, login: Login, sql: RunSql
) -> None:
    root = await login("root", role="admin")
    sql("TRUNCATE audit_events RESTART IDENTITY")
    sql(
        "INSERT INTO audit_events (event, user_id, at) SELECT "
        "CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END, n % 3, "
        "'2026-01-01T00:00:00Z'::timestamptz + n * interval '1 hour' FROM generate_series(1, 7) n"
    )

    async def ids(**query: Any) -> tuple[list[int], int | None]:
        answer = await client.get(AUDIT, params=query, headers=root)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["events"]], answer.json()["next_cursor"]

    assert await ids() == ([7, 6, 5, 4, 3, 2, 1], None)
    assert await ids(limit=3) == ([7, 6, 5], 5)
    # What comes meanwhile moves no page.
    sql("INSERT INTO audit_events (event) VALUES ('later')")
    assert await ids(limit=3, cursor=5) == ([4, 3, 2], 2)
    assert await ids(limit=3, cursor=2) == ([1], None)
    assert await ids(limit=7, cursor=8) == ([7, 6, 5, 4, 3, 2, 1], None)
    assert await ids(event="even") == ([6, 4, 2], None)
    assert await ids(user_id=1) == ([7, 4, 1], None)
    assert await ids(user_id=1, event="odd", limit=1) == ([7], 7)
    assert await ids(since="2026-01-01T03:00:00Z", until="2026-01-01T06:00:00+01:00") == (
        [4, 3],
        None,
    )
    assert await ids(event="' OR true --") == ([], None)
    for wrong in (
        {"limit": 101},
        {"cursor": 0},
        {"since": "2026-01-01T00:00:00"},
        {"user_id": "x"},
    ):
        answer = await client.get(AUDIT, params=wrong, headers=root)
        assert answer.status_code == 422


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET event = 'nothing'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "DROP TABLE audit_events",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
    ],
)
async def test_the_service_itself_cannot_change_the_trail(
    client: httpx.AsyncClient, postgresql: PostgreSQL, sql: RunSql, statement: str
) -> None:
    await register(client, "ann")
    assert postgresql.execute("SELECT count(*) FROM audit_events", "harbour", "harbour") == "1"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        postgresql.execute(statement, "harbour", "harbour")
    assert "permission denied" in caught.value.stderr or "must be owner" in caught.value.stderr
    assert [one["event"] for one in events(sql)] == ["account.registered"]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("days", "kept"), [(0, 3), (-5, 3), (89, 3), (90, 3), (100, 4), (400, 5)])
async def test_nobody_prunes_the_last_90_days(
    client: httpx.AsyncClient,
    postgresql: PostgreSQL,
    sql: RunSql,
    days: int,
    kept: int,
    alone: bool,
) -> None:
    sql(
        "INSERT INTO audit_events (event, at) SELECT 'x', now() - make_interval(days => days) "
        "FROM unnest(ARRAY[0, 30, 89, 91, 101, 401]) AS days"
    )
    # The first is what earlier releases call.
    arguments = days if alone else f"{days}, 100"
    removed = postgresql.execute(f"SELECT prune_audit_events({arguments})", "harbour", "harbour")
    assert int(removed) == 6 - kept
    assert sql("SELECT count(*) FROM audit_events") == str(kept)


async def test_cleaning_up_forgets_what_has_expired_and_nothing_else(
    start_app: StartApp, sql: RunSql
) -> None:
    client = await start_app()
    await register(client, "ann")
    tokens = await tokens_of(client)
    await refresh(client, tokens["refresh_token"])
    await tokens_of(client)
    sql("UPDATE sessions SET expires_at = now() - interval '1 second' WHERE id = 2")
    sql(
        "INSERT INTO refresh_tokens (session_id, token_hash, nonce, expires_at) "
        "VALUES (1, 'old', '', now() - interval '1 second')"
    )
    sql(
        "INSERT INTO mail_tokens (user_id, purpose, token_hash, email, expires_at) VALUES "
        "(1, 'verify_email', 'old', '', now() - interval '1 second'), "
        "(1, 'verify_email', 'good', '', now() + interval '1 minute')"
    )
    sql(
        "INSERT INTO api_keys (user_id, name, prefix, key_hash, scopes, expires_at) SELECT "
        "1, name, '', name::bytea, '', now() - age::interval FROM (VALUES ('old', '31 days'), "
        "('lately', '29 days'), ('good', '-1 day'), ('endless', NULL)) AS v (name, age)"
    )
    sql("DELETE FROM login_counters")
    sql(
        "INSERT INTO login_counters (subject, client, last_failed_at, locked_until, known_until) "
        "SELECT name::bytea, '', now() - failed::interval, now() + locked::interval, "
        "now() + known::interval FROM (VALUES ('old', '25 hours', '-1 hour', '-1 hour'), "
        "('empty', NULL, NULL, NULL), ('failed', '23 hours', NULL, NULL), "
        "('locked', '25 hours', '1 hour', NULL), ('known', NULL, NULL, '1 hour')) "
        "AS v (name, failed, locked, known)"
    )
    sql("INSERT INTO audit_events (event, at) VALUES ('old', now() - interval '401 days')")
    sql("INSERT INTO audit_events (event, at) VALUES ('kept', now() - interval '399 days')")
    application: Any = client.application  # type: ignore[attr-defined]
    resources: Resources = application.state.resources
    settings = resources.settings
    for _ in range(2):
        await clean_up(JobResources(settings, resources.database, Mailer(settings)))
    assert sql("SELECT id FROM sessions") == "1"
    # The used one stays, or its reuse could not be seen.
    assert sql("SELECT used_at IS NOT NULL FROM refresh_tokens ORDER BY id") == "t\nf"
    assert sql("SELECT convert_from(token_hash, 'UTF8') FROM mail_tokens") == "good"
    assert sql("SELECT name FROM api_keys ORDER BY name") == "endless\ngood\nlately"
    subjects = "SELECT convert_from(subject, 'UTF8') AS s FROM login_counters ORDER BY s"
    assert sql(subjects) == "failed\nknown\nlocked"
    names = {one["event"] for one in await asyncio.to_thread(events, sql)}
    assert "kept" in names
    assert "old" not in names
    answer = await refresh(client, tokens["refresh_token"])
    assert answer.status_code == 200
