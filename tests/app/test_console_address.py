"""An account that was taken over is given back on the console, by the address of its owner."""

import asyncio

import httpx
import pytest

from tests.app.conftest import PASSWORD, Login, Post, RunSql, events, log_in, register, text_of
from tests.app.consoles import RunConsole, sentence
from tests.app.test_profile import ME, change, key_of
from tests.app.test_recovery import NEW, ask_reset, refused, reset, verify
from tests.app.test_sessions import refresh, status_of, tokens_of

THIEF = "thief@elsewhere.example"
OWNER = "ann@example.com"
SAID = (
    "ann has the address ann@example.com now; its sessions ended, its API keys are revoked, its "
    "password is worthless: its owner asks for a new one at that address"
)


async def set_email(console: RunConsole, account: str, address: str) -> str:
    """Give an account another address; return what the operator reads."""
    result = await asyncio.to_thread(console, "set-email", account, address)
    assert result.returncode == 0, result.stderr
    assert "@" not in result.stderr
    return result.stdout


async def test_whoever_took_an_account_is_out_and_its_owner_gets_in_by_the_mail_of_a_reset(
    client: httpx.AsyncClient, login: Login, post: Post, console: RunConsole, sql: RunSql
) -> None:
    headers = await login("ann")
    await post.mails(1)
    assert (await change(client, headers, email=THIEF)).status_code == 200
    mails = await post.mails(3)
    (to_verify,) = {word for mail in mails[1:] for word in text_of(mail).split() if "hmt_" in word}
    await ask_reset(client, THIEF)
    to_reset = await post.token(4)
    tokens, key = await tokens_of(client), await key_of(client, headers)

    assert await set_email(console, THIEF, "Ann@Example.com") == f"{SAID}.\n"
    for token in (headers["Authorization"].removeprefix("Bearer "), tokens["access_token"]):
        assert await status_of(client, token) == 401
    assert (await refresh(client, tokens["refresh_token"])).status_code == 401
    assert (await client.get(ME, headers=key)).status_code == 401
    assert (await log_in(client, "ann")).status_code == 401
    assert refused(await reset(client, to_reset))
    assert refused(await verify(client, to_verify))

    await post.mails(6)
    await ask_reset(client, THIEF)
    await ask_reset(client, OWNER)
    token = await post.token(7)
    # Nothing but the notice of the change has gone to the thief, and it names nobody.
    assert sorted(post.inbox.recipients[4:]) == [OWNER, OWNER, THIEF]
    (told,) = [
        text_of(mail)
        for mail, to in zip(post.inbox.messages[4:], post.inbox.recipients[4:], strict=True)
        if to == THIEF
    ]
    assert "a…@example.com" in told
    assert OWNER not in told
    assert "hmt_" not in told
    assert (await reset(client, token)).status_code == 200
    assert (await log_in(client, "ann", NEW)).status_code == 200
    assert sql("SELECT email, email_verified_at IS NOT NULL FROM users") == f"{OWNER}|t"


async def test_the_trail_says_who_gave_an_account_another_address(
    client: httpx.AsyncClient, login: Login, console: RunConsole, sql: RunSql
) -> None:
    await key_of(client, await login("ann"))
    sql(f"UPDATE users SET email = '{THIEF}', email_verified_at = now()")
    await set_email(console, "ann", OWNER)
    assert sql("SELECT email, email_verified_at IS NULL FROM users") == f"{OWNER}|t"
    changed, revoked = events(sql, "event IN ('account.email_changed', 'key.revoked')")
    assert (changed["event"], changed["details"]) == ("account.email_changed", {"operator": "olga"})
    assert (revoked["event"], revoked["details"]["operator"]) == ("key.revoked", "olga")
    for event in (changed, revoked):
        assert (event["user_id"], event["actor_id"], event["client_address"]) == (1, None, None)
    assert "@" not in str(events(sql))


@pytest.mark.parametrize("address", [OWNER, "ANN@Example.COM"])
async def test_the_address_that_an_account_has_changes_nothing(
    client: httpx.AsyncClient, login: Login, console: RunConsole, sql: RunSql, address: str
) -> None:
    headers = await login("ann")
    key = await key_of(client, headers)
    sql("UPDATE users SET email_verified_at = now()")
    stored = "SELECT users, (SELECT max(id) FROM procrastinate_jobs) FROM users"
    before, trail = sql(stored), events(sql)
    assert await set_email(console, "ann", address) == (
        "ann has the address ann@example.com already: nothing was changed.\n"
    )
    assert (sql(stored), events(sql)) == (before, trail)
    for proof in (headers, key):
        assert (await client.get(ME, headers=proof)).status_code == 200
    assert (await log_in(client, "ann")).status_code == 200


@pytest.mark.parametrize("taken", ["bob@example.com", "BOB@Example.COM"])
async def test_an_address_of_another_account_is_refused_and_nothing_is_changed(
    client: httpx.AsyncClient, login: Login, console: RunConsole, sql: RunSql, taken: str
) -> None:
    await register(client, "bob")
    headers = await login("ann")
    key = await key_of(client, headers)
    stored = "SELECT users, (SELECT max(id) FROM procrastinate_jobs) FROM users WHERE id = 2"
    before, trail = sql(stored), events(sql)
    result = await asyncio.to_thread(console, "set-email", "ann", taken)
    assert sentence(result) == "This email address belongs to another account."
    assert (sql(stored), events(sql)) == (before, trail)
    for proof in (headers, key):
        assert (await client.get(ME, headers=proof)).status_code == 200


async def test_a_deactivated_account_stays_so_until_it_is_activated(
    client: httpx.AsyncClient, post: Post, console: RunConsole, sql: RunSql
) -> None:
    await register(client, "ann")
    await post.mails(1)
    sql(f"UPDATE users SET email = '{THIEF}', is_active = false")
    said = await set_email(console, "ann", OWNER)
    assert said == f"{SAID}, once the account is active again (`activate`).\n"
    # An account that is closed gets no link.
    await post.mails(2)
    assert post.inbox.recipients[1:] == [THIEF]
    assert (await asyncio.to_thread(console, "activate", "ann")).returncode == 0
    assert (await log_in(client, "ann", PASSWORD)).status_code == 401
    await ask_reset(client, OWNER)
    assert (await reset(client, await post.token(3))).status_code == 200
    assert (await log_in(client, "ann", NEW)).status_code == 200


async def test_a_login_that_waits_for_the_account_comes_too_late(
    client: httpx.AsyncClient, console: RunConsole, sql: RunSql
) -> None:
    await register(client, "ann")
    sql(f"UPDATE users SET email = '{THIEF}'")
    moving = asyncio.create_task(set_email(console, "ann", OWNER))
    opened = []
    while not moving.done():
        answer = await log_in(client, "ann")
        opened += [answer.json()["access_token"]] if answer.status_code == 200 else []
    assert await moving == f"{SAID}.\n"
    assert opened
    assert {await status_of(client, token) for token in opened} == {401}
    assert sql("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == "0"
