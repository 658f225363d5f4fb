"""Verifying addresses and resetting passwords, with the mails of a real worker."""

import asyncio

import httpx
import pytest

from tests.app.conftest import (
    PASSWORD,
    Login,
    Post,
    RunSql,
    StartApp,
    StartPost,
    events,
    log_in,
    register,
    text_of,
)
from tests.app.test_lockout import WRONG, at
from tests.app.test_sessions import refresh, status_of, tokens_of

NEW = "Better-horse-8"


async def verify(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/api/v1/users/verify-email", json={"token": token})


async def ask_reset(client: httpx.AsyncClient, email: str) -> httpx.Response:
    return await client.post("/api/v1/users/password-reset/request", json={"email": email})


async def reset(client: httpx.AsyncClient, token: str, password: str = NEW) -> httpx.Response:
    body = {"token": token, "new_password": password}
    return await client.post("/api/v1/users/password-reset", json=body)


def refused(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_token")


async def test_registering_sends_a_mail_whose_token_verifies_once(
    client: httpx.AsyncClient, post: Post, sql: RunSql
) -> None:
    assert (await register(client, "ann")).json()["email_verified"] is False
    token = await post.token(1)
    assert post.inbox.recipients == ["ann@example.com"]
    text = text_of(post.inbox.messages[0])
    assert "Hello ann," in text
    assert "1 day" in text
    assert "http" not in text
    answer = await verify(client, token)
    assert answer.status_code == 200
    assert answer.json()["email_verified"] is True
    assert refused(await verify(client, token))
    (event,) = events(sql, "event = 'account.email_verified'")
    assert (event["user_id"], event["actor_id"]) == (1, 1)


async def test_links_have_the_token_where_no_server_sees_it(
    client: httpx.AsyncClient, start_post: StartPost
) -> None:
    post = start_post(public_url="https://www.example.com/app/")
    await register(client, "ann")
    token = await post.token(1)
    assert f"\n\nhttps://www.example.com/app/verify-email#token={token}\n" in text_of(
        post.inbox.messages[0]
    )
    await ask_reset(client, "ann@example.com")
    token = await post.token(2)
    text = text_of(post.inbox.messages[1])
    assert f"\n\nhttps://www.example.com/app/password-reset#token={token}\n" in text
    assert "30 minutes" in text


async def test_nobody_sends_words_of_their_own_to_an_address_that_is_not_verified(
    client: httpx.AsyncClient, login: Login, post: Post, sql: RunSql
) -> None:
    headers = await login("ann")
    # The worker in this loop must not hold the account while the statement waits for it.
    await post.mails(1)
    # As an account of former days may have it, too.
    sql(r"UPDATE users SET full_name = E'you,\n\nread https://evil.example'")
    await client.post("/api/v1/users/verify-email/request", headers=headers)
    await ask_reset(client, "ann@example.com")
    change = {"current_password": PASSWORD, "new_password": NEW}
    await client.post("/api/v1/auth/change-password", json=change, headers=headers)
    await post.mails(4)
    move = {"email": "ann@other.example", "full_name": "https://evil.example"}
    assert (await client.put("/api/v1/users/me", json=move, headers=headers)).status_code == 200
    mails = await post.mails(6)
    assert post.inbox.recipients[4:].count("ann@other.example") == 1
    for mail in mails:
        assert text_of(mail).startswith("Hello ann,\n")
        assert "evil" not in mail.as_string()
    # Not even when the new address is verified before the mail to the former one is sent.
    sql("UPDATE users SET email_verified_at = now()")
    sql(
        "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW('default', 'recovery.tell_email_changed', 0, "
        'NULL, NULL, \'{"user_id": 1, "old": "a@b.example", "new": "c@d.example"}\', NULL)'
        "::procrastinate_job_to_defer_v1])"
    )
    assert text_of((await post.mails(7))[-1]).startswith("Hello ann,\n")
    assert post.inbox.recipients[-1] == "a@b.example"


async def test_who_has_verified_the_address_is_greeted_by_the_full_name(
    client: httpx.AsyncClient, post: Post, sql: RunSql
) -> None:
    await register(client, "ann")
    assert (await verify(client, await post.token(1))).status_code == 200
    await ask_reset(client, "ann@example.com")
    assert (await reset(client, await post.token(2))).status_code == 200
    assert [text_of(mail).splitlines()[0] for mail in await post.mails(3)] == [
        "Hello ann,",
        "Hello Somebody,",
        "Hello Somebody,",
    ]


async def test_a_token_that_is_not_good_verifies_nothing(
    client: httpx.AsyncClient, post: Post, sql: RunSql
) -> None:
    await register(client, "ann")
    token = await post.token(1)
    await ask_reset(client, "ann@example.com")
    other_purpose = await post.token(2)
    for wrong in ("x", "hmt_" + "a" * 43, "hmt_ß\x00", token[:-1], token.upper(), other_purpose):
        assert refused(await verify(client, wrong))
    # Each is for its own purpose.
    assert refused(await reset(client, token))
    sql("UPDATE users SET is_active = false")
    assert refused(await verify(client, token))
    sql("UPDATE users SET is_active = true, email = 'other@example.com'")
    assert refused(await verify(client, token))
    sql("UPDATE users SET email = 'ann@example.com'")
    sql("UPDATE mail_tokens SET expires_at = now() - interval '1 second'")
    assert refused(await verify(client, token))
    assert refused(await reset(client, other_purpose))
    assert sql("SELECT count(*) FROM users WHERE email_verified_at IS NOT NULL") == "0"
    sql("UPDATE mail_tokens SET expires_at = now() + interval '1 second'")
    assert (await verify(client, token)).status_code == 200


async def test_the_mail_can_be_asked_for_again_until_the_address_is_verified(
    client: httpx.AsyncClient, login: Login, post: Post
) -> None:
    headers = await login("ann")
    first = await post.token(1)
    path = "/api/v1/users/verify-email/request"
    assert (await client.post(path, headers=headers)).status_code == 202
    second = await post.token(2)
    assert (await verify(client, second)).status_code == 200
    # One mail was enough: the others are worth nothing any more.
    assert refused(await verify(client, first))
    assert (await client.post(path, headers=headers)).status_code == 202
    await post.mails(2)
    assert (await client.post(path)).status_code == 401


async def test_a_request_does_the_same_for_every_address(
    client: httpx.AsyncClient, post: Post, sql: RunSql
) -> None:
    await register(client, "ann")
    await register(client, "gone")
    await post.mails(2)
    sql("UPDATE users SET is_active = false WHERE username = 'gone'")
    found = []
    for name in ("ann", "nobody", "gone"):
        before = int(sql("SELECT last_value FROM procrastinate_jobs_id_seq"))
        answer = await ask_reset(client, f"{name}@example.com")
        jobs = int(sql("SELECT last_value FROM procrastinate_jobs_id_seq")) - before
        (event,) = events(sql, "event = 'password.reset_requested'")[-1:]
        found.append((answer.status_code, answer.json(), jobs, event["user_id"]))
    assert found[0][0] == 202
    assert found == [found[0]] * 3
    await post.mails(3)
    assert post.inbox.recipients[2:] == ["ann@example.com"]


async def test_a_reset_puts_the_account_into_the_hands_of_its_owner(
    client: httpx.AsyncClient, login: Login, post: Post, sql: RunSql
) -> None:
    headers = await login("ann")
    tokens = await tokens_of(client)
    key = (await client.post("/api/v1/api-keys/generate", headers=headers)).json()["api_key"]
    sql("UPDATE login_counters SET known_until = NULL")
    for _ in range(6):
        await log_in(client, "ann", WRONG)
    assert (await log_in(client, "ann")).status_code == 401
    for _ in range(2):
        await ask_reset(client, "ANN@example.com")
    await post.mails(3)
    good, other = [
        word
        for message in post.inbox.messages[1:]
        for word in text_of(message).split()
        if word.startswith("hmt_")
    ]
    answer = await reset(client, good)
    assert answer.status_code == 200
    assert (await log_in(client, "ann")).status_code == 401
    assert (await log_in(client, "ann", NEW)).status_code == 200
    assert await status_of(client, tokens["access_token"]) == 401
    assert (await refresh(client, tokens["refresh_token"])).status_code == 401
    with_key = await client.get("/api/v1/users/me", headers={"X-API-Key": key})
    assert with_key.status_code == 401
    for used in (good, other):
        assert refused(await reset(client, used, "Another-horse-9"))
    assert sql("SELECT email_verified_at IS NOT NULL FROM users") == "t"
    assert "password" in (await post.mails(4))[3]["Subject"]
    assert post.inbox.recipients[3] == "ann@example.com"
    names = [event["event"] for event in events(sql, "event ~ '^(password|account|key)'")]
    done = names.index("password.reset")
    assert set(names[done - 1 : done + 2]) == {"key.revoked", "password.reset", "account.unlocked"}


async def test_a_reset_unlocks_the_change_of_the_password(
    client: httpx.AsyncClient, login: Login, post: Post, sql: RunSql
) -> None:
    path = "/api/v1/auth/change-password"
    wrong = {"current_password": WRONG, "new_password": NEW}
    headers = await login("ann")
    for _ in range(6):
        assert (await client.post(path, json=wrong, headers=headers)).status_code == 403
    await ask_reset(client, "ann@example.com")
    assert (await reset(client, await post.token(2))).status_code == 200
    token = (await log_in(client, "ann", NEW)).json()["access_token"]
    right = {"current_password": NEW, "new_password": "Another-horse-9"}
    headers = {"Authorization": f"Bearer {token}"}
    assert (await client.post(path, json=right, headers=headers)).status_code == 204
    assert len(events(sql, "event = 'account.unlocked'")) == 1


async def test_a_password_made_of_the_name_is_refused_at_a_reset(
    client: httpx.AsyncClient, post: Post
) -> None:
    await register(client, "ann")
    await ask_reset(client, "ann@example.com")
    token = await post.token(2)
    answer = await reset(client, token, "Somebody-99!")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "weak_password")


async def test_where_a_password_was_reset_strangers_lock_nobody_out(
    client: httpx.AsyncClient, post: Post
) -> None:
    await register(client, "ann")
    await ask_reset(client, "ann@example.com")
    assert (await reset(client, await post.token(2))).status_code == 200
    async with at(client, "198.51.100.9") as stranger, at(client, "203.0.113.5") as elsewhere:
        for _ in range(6):
            await log_in(stranger, "ann", WRONG)
        assert (await log_in(elsewhere, "ann", NEW)).status_code == 401
    assert (await log_in(client, "ann", NEW)).status_code == 200


async def test_a_weak_password_leaves_the_token_good(client: httpx.AsyncClient, post: Post) -> None:
    await register(client, "ann")
    await ask_reset(client, "ann@example.com")
    token = await post.token(2)
    answer = await reset(client, token, "password")
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "weak_password"
    assert answer.json()["detail"][0]["loc"] == ["body", "new_password"]
    assert (await reset(client, token)).status_code == 200


@pytest.mark.parametrize("same", [True, False])
async def test_of_two_resets_at_once_one_wins(
    client: httpx.AsyncClient, post: Post, sql: RunSql, same: bool
) -> None:
    await register(client, "ann")
    await ask_reset(client, "ann@example.com")
    first = second = await post.token(2)
    if not same:
        await ask_reset(client, "ann@example.com")
        second = await post.token(3)
    passwords = ("First-horse-1", "Second-horse-2")
    answers = await asyncio.gather(
        reset(client, first, passwords[0]), reset(client, second, passwords[1])
    )
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    works = [(await log_in(client, "ann", one)).status_code == 200 for one in passwords]
    assert works == [answer.status_code == 200 for answer in answers]
    assert sql("SELECT count(*) FROM audit_events WHERE event = 'password.reset'") == "1"


async def test_of_two_verifications_at_once_one_wins(client: httpx.AsyncClient, post: Post) -> None:
    await register(client, "ann")
    first = await post.token(1)
    tokens = await tokens_of(client)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    await client.post("/api/v1/users/verify-email/request", headers=headers)
    second = await post.token(2)
    answers = await asyncio.gather(*(verify(client, one) for one in (first, second, first)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400]


async def test_a_reset_token_does_not_survive_a_change_of_the_password(
    client: httpx.AsyncClient, login: Login, post: Post
) -> None:
    headers = await login("ann")
    await ask_reset(client, "ann@example.com")
    token = await post.token(2)
    change = {"current_password": PASSWORD, "new_password": NEW}
    answer = await client.post("/api/v1/auth/change-password", json=change, headers=headers)
    assert answer.status_code == 204
    assert refused(await reset(client, token, "Another-horse-9"))
    assert (await log_in(client, "ann", NEW)).status_code == 200


async def test_a_reset_token_does_not_survive_a_change_of_the_address(
    client: httpx.AsyncClient, login: Login, post: Post
) -> None:
    headers = await login("ann")
    await ask_reset(client, "ann@example.com")
    token = await post.token(2)
    for address in ("other@example.com", "ann@example.com"):
        answer = await client.put("/api/v1/users/me", json={"email": address}, headers=headers)
        assert answer.status_code == 200
        # Nor does it come back when the address does.
        assert refused(await reset(client, token))
    assert (await log_in(client, "ann")).status_code == 200


async def test_an_account_gets_five_mails_as_long_as_their_links_are_good_whoever_asks(
    client: httpx.AsyncClient, post: Post, sql: RunSql
) -> None:
    await register(client, "ann")
    await register(client, "bob")
    for number in range(7):
        async with at(client, f"198.51.100.{number}") as somebody:
            assert (await ask_reset(somebody, "ann@example.com")).status_code == 202
    await post.mails(2 + 5)
    await ask_reset(client, "bob@example.com")
    await post.mails(2 + 6)
    sql("UPDATE mail_tokens SET created_at = created_at - interval '30 minutes'")
    await ask_reset(client, "ann@example.com")
    await post.mails(2 + 7)


async def test_the_token_is_in_the_mail_alone(
    start_app: StartApp, post: Post, sql: RunSql, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await start_app(log_output="json", log_level="DEBUG")
    await register(client, "ann")
    first = await post.token(1)
    await ask_reset(client, "ann@example.com")
    second = await post.token(2)
    tables = sql(
        "SELECT query_to_xml('SELECT * FROM ' || oid::regclass, true, false, '') FROM pg_class "
        "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    # The dump is one: it holds what is known to be there.
    assert "ann@example.com" in tables
    assert (await verify(client, first)).status_code == 200
    assert (await reset(client, second)).status_code == 200
    await post.mails(3)
    lines = capsys.readouterr().err.splitlines()
    # Without those of the test's own SMTP server.
    logs = "\n".join(line for line in lines if '"logger":"mail.log"' not in line)
    assert "password.reset" in logs
    assert "job.done" in logs
    for token in (first, second):
        assert token not in tables
        assert token not in logs
    assert NEW not in logs
    assert PASSWORD not in logs
    assert "ann@example.com" not in logs


async def test_guesses_at_tokens_and_requests_for_mails_are_limited(start_app: StartApp) -> None:
    client = await start_app(limit_mail="2/hour", limit_secret="3/minute")
    for expected in (202, 202, 429):
        assert (await ask_reset(client, "ann@example.com")).status_code == expected
    for guess in (verify, reset, verify):
        assert refused(await guess(client, "x"))
    assert (await reset(client, "x")).status_code == 429
