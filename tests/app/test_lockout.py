"""The lockout: it stops guesses, and nobody can lock an owner out by it."""

import asyncio
import time
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import httpx
import pytest
from argon2 import PasswordHasher

from tests.app.conftest import PASSWORD, RunSql, StartApp, events, log_in, register
from tests.services import OWNER, PostgreSQL

WRONG = "Wrong-horse-7"


def at(client: httpx.AsyncClient, address: str) -> httpx.AsyncClient:
    """The same instance, asked from another address."""
    application: Any = client.application  # type: ignore[attr-defined]
    transport = httpx.ASGITransport(application, client=(address, 4711))
    return httpx.AsyncClient(transport=transport, base_url="http://testserver")


async def statuses(client: httpx.AsyncClient, *passwords: str) -> list[int]:
    return [(await log_in(client, "ann", password)).status_code for password in passwords]


async def test_five_failures_lock_for_half_an_hour(client: httpx.AsyncClient, sql: RunSql) -> None:
    await register(client, "ann")
    assert set(await statuses(client, *[WRONG] * 5)) == {401}
    assert (await log_in(client, "ann")).status_code == 401
    left = "SELECT round(extract(epoch FROM locked_until - now()) / 60) FROM login_counters"
    assert sql(left) == "30"
    sql("UPDATE login_counters SET locked_until = now() - interval '1 second'")
    assert (await log_in(client, "ann")).status_code == 200
    assert sql("SELECT event FROM audit_events WHERE event LIKE 'account.l%'") == "account.locked"


async def test_a_right_password_too_soon_after_failures_is_refused(
    client: httpx.AsyncClient, sql: RunSql
) -> None:
    await register(client, "ann")
    assert await statuses(client, WRONG, PASSWORD) == [401, 200]
    assert await statuses(client, WRONG, WRONG, WRONG, PASSWORD) == [401] * 4
    sql("UPDATE login_counters SET last_failed_at = now() - interval '1 second'")
    assert await statuses(client, PASSWORD) == [401]
    sql("UPDATE login_counters SET last_failed_at = now() - interval '3 seconds'")
    assert await statuses(client, PASSWORD) == [200]
    assert sql("SELECT sum(failures) FROM login_counters") == "0"
    told = "SELECT details->>'reason' FROM audit_events WHERE event = 'login.failed' ORDER BY id"
    assert sql(told).split() == [*["credentials"] * 4, "too_early", "too_early"]


async def test_many_guesses_at_once_get_no_further_than_a_queue(
    start_app: StartApp, sql: RunSql
) -> None:
    instances = [await start_app() for _ in range(2)]
    await register(instances[0], "ann")
    guesses = [log_in(instances[number % 2], "ann", f"{WRONG}{number}") for number in range(30)]
    answers = await asyncio.gather(*guesses, log_in(instances[0], "ann"))
    assert {answer.status_code for answer in answers} <= {401, 503}
    assert sql("SELECT max(failures) FROM login_counters") == "5"


async def test_logins_with_the_right_password_at_once_all_succeed(
    client: httpx.AsyncClient,
) -> None:
    await register(client, "ann")
    answers = await asyncio.gather(*(log_in(client, "ann") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}


async def test_a_login_that_renews_the_hash_is_in_nobodys_way(
    client: httpx.AsyncClient, sql: RunSql
) -> None:
    await register(client, "ann")
    weaker = PasswordHasher(time_cost=1, memory_cost=8192).hash(PASSWORD)

    def weaken() -> None:
        sql(f"UPDATE users SET password_hash = '{weaker}'")

    weaken()
    answers = await asyncio.gather(*(log_in(client, "ann") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    headers = {"Authorization": f"Bearer {answers[0].json()['access_token']}"}
    weaken()
    change = {"current_password": PASSWORD, "new_password": "Better-horse-8"}
    changed, logged_in = await asyncio.gather(
        client.post("/api/v1/auth/change-password", json=change, headers=headers),
        log_in(client, "ann"),
    )
    assert changed.status_code == 204
    assert logged_in.status_code in {200, 401}
    assert events(sql, "event = 'password.refused'") == []


async def test_strangers_do_not_lock_the_owner_out_where_the_owner_is_known(
    client: httpx.AsyncClient,
) -> None:
    await register(client, "ann")
    assert await statuses(client, PASSWORD) == [200]
    async with at(client, "198.51.100.9") as stranger, at(client, "203.0.113.5") as elsewhere:
        assert set(await statuses(stranger, *[WRONG] * 6)) == {401}
        assert await statuses(elsewhere, PASSWORD) == [401]
        assert await statuses(client, PASSWORD) == [200]
        # That the owner is known here does not help the strangers.
        assert await statuses(stranger, PASSWORD) == [401]


async def test_a_known_client_that_guesses_is_locked_by_itself(client: httpx.AsyncClient) -> None:
    await register(client, "ann")
    assert await statuses(client, PASSWORD) == [200]
    assert set(await statuses(client, *[WRONG] * 5)) == {401}
    assert await statuses(client, PASSWORD) == [401]
    async with at(client, "203.0.113.5") as elsewhere:
        assert await statuses(elsewhere, PASSWORD) == [200]


async def test_an_unknown_name_is_counted_like_a_known_one(
    client: httpx.AsyncClient, sql: RunSql
) -> None:
    await register(client, "ann")
    for name in ("ann", "nobody"):
        for _ in range(6):
            answer = await log_in(client, name, WRONG)
            assert answer.status_code == 401
    assert sql("SELECT DISTINCT failures FROM login_counters WHERE client = ''") == "5"
    events = "SELECT count(*), count(DISTINCT details->>'reason') FROM audit_events"
    assert sql(f"{events} WHERE event = 'login.failed' GROUP BY user_id ORDER BY user_id") == (
        "6|2\n6|2"
    )
    # Nothing that was typed is kept: people type their password into the field of the name.
    assert "nobody" not in sql("SELECT * FROM audit_events")
    assert "nobody" not in sql("SELECT encode(subject, 'escape') FROM login_counters")


@pytest.mark.parametrize("state", ["is_active = false", "role = role"])
async def test_a_deactivated_account_answers_like_a_wrong_password(
    client: httpx.AsyncClient, sql: RunSql, state: str
) -> None:
    await register(client, "ann")
    sql(f"UPDATE users SET {state}")
    answer = await log_in(client, "ann", PASSWORD if "false" in state else WRONG)
    body = answer.json()
    body["error"].pop("request_id")
    assert (answer.status_code, body) == (
        401,
        {
            "error": {
                "code": "invalid_credentials",
                "message": "Incorrect username or password",
            },
            "detail": "Incorrect username or password",
        },
    )


async def test_a_deactivation_during_a_login_wins(
    client: httpx.AsyncClient, sql: RunSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(client, "ann")
    application: Any = client.application  # type: ignore[attr-defined]
    passwords = application.state.resources.passwords
    verify = passwords.verify

    async def slow(password: str, stored: str | None) -> tuple[bool, str | None]:
        found: tuple[bool, str | None] = await verify(password, stored)
        await asyncio.to_thread(sql, "UPDATE users SET is_active = false")
        return found

    monkeypatch.setattr(type(passwords), "verify", lambda _, *given: slow(*given))
    assert (await log_in(client, "ann")).status_code == 401
    assert sql("SELECT count(*) FROM sessions") == "0"


async def test_a_login_bears_that_its_counter_is_forgotten_meanwhile(
    client: httpx.AsyncClient, sql: RunSql, postgresql: PostgreSQL
) -> None:
    await register(client, "ann")
    assert await statuses(client, WRONG) == [401]
    owner: Any = await asyncpg.connect(host=str(postgresql.folder), user=OWNER, database="harbour")
    async with owner.transaction():
        # As the clean-up does: it holds a counter, and takes it away.
        await owner.execute("SELECT * FROM login_counters FOR UPDATE")
        waiting = [asyncio.create_task(log_in(client, "ann", one)) for one in (WRONG, PASSWORD)]
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        deadline = time.monotonic() + 20
        while int(await asyncio.to_thread(sql, blocked)) < len(waiting):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        await owner.execute("DELETE FROM login_counters")
    await owner.close()
    answers = await asyncio.gather(*waiting)
    assert [answer.status_code for answer in answers] == [401, 200]
