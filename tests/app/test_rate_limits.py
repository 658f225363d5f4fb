"""Rate limits: shared, bounded in time, and off the event loop."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest
import redis
from starlette.requests import Request

from app import exhausted, metrics
from app.errors import UnavailableError
from app.exhausted import GoodKeys
from app.rate_limits import caller
from tests.app.conftest import PASSWORD, Login, RunSql, StartApp, events, log_in, register
from tests.services import RedisServer, running_redis


def check_refusal(answer: httpx.Response, limit: int, window: int) -> None:
    assert answer.status_code == 429, answer.text
    assert answer.json()["error"]["code"] == "rate_limited"
    assert answer.headers["x-ratelimit-limit"] == str(limit)
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert 1 <= int(answer.headers["retry-after"]) <= window + 1
    assert answer.headers["x-ratelimit-reset"] == answer.headers["retry-after"]
    assert answer.headers["x-request-id"] == answer.json()["error"]["request_id"]


async def test_two_instances_share_the_limit_of_logging_in(start_app: StartApp) -> None:
    one, other = [await start_app(limit_login="4/minute") for _ in range(2)]
    for client in (one, other, one, other):
        assert (await log_in(client, "ann")).status_code == 401
    check_refusal(await log_in(one, "ann"), 4, 60)
    check_refusal(await log_in(other, "ann"), 4, 60)


async def test_the_usual_limits_are_those_of_the_rules(start_app: StartApp) -> None:
    client = await start_app(
        limit_login="5/minute", limit_register="3/hour", limit_search="30/minute"
    )
    for number in range(3):
        assert (await register(client, f"user{number}")).status_code == 201
    check_refusal(await register(client, "user4"), 3, 3600)
    for _ in range(30):
        assert (await client.get("/api/v1/items?search=x")).status_code == 200
    check_refusal(await client.get("/api/v1/items?search=x"), 30, 60)
    # A list that searches nothing is another matter.
    assert (await client.get("/api/v1/items")).status_code == 200


async def test_who_waits_as_long_as_is_said_is_let_in(
    start_app: StartApp, redis_server: RedisServer
) -> None:
    client = await start_app(limit_login="1/minute")
    assert (await log_in(client, "ann")).status_code == 401
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as store:
        [counter] = store.keys("LIMITS:*")
        # Rounded to whole seconds, less would be left than there is.
        store.pexpire(counter, 2400)
    refused = await log_in(client, "ann")
    check_refusal(refused, 1, 60)
    await asyncio.sleep(int(refused.headers["retry-after"]))
    assert (await log_in(client, "ann")).status_code == 401


@pytest.mark.parametrize("limit_default", ["", "600/minute"])
async def test_all_searches_count_together_and_nothing_else_does(
    start_app: StartApp, limit_default: str
) -> None:
    client = await start_app(limit_search="4/minute", limit_default=limit_default)
    for _ in range(2):
        for path in ("/api/v1/items?search=x", "/api/v1/books?limit=5&author=x"):
            assert (await client.get(path)).status_code == 200
    for path in ("/api/v1/items?search=y", "/api/v1/books?author=y", "/api/v1/books?author=y&a=b"):
        check_refusal(await client.get(path), 4, 60)
    # What an endpoint does not know, it does not search for.
    for path in ("books", "books?author=", "books?search=x", "items?author=x", "items?search="):
        assert (await client.get(f"/api/v1/{path}")).status_code == 200


async def test_who_searches_accounts_searches(start_app: StartApp, sql: RunSql) -> None:
    client = await start_app(limit_search="2/minute")
    await register(client, "ann")
    sql("UPDATE users SET role = 'admin'")
    token = (await log_in(client, "ann")).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    for path in ("admin/users?search=a", "items?search=a"):
        assert (await client.get(f"/api/v1/{path}", headers=headers)).status_code == 200
    check_refusal(await client.get("/api/v1/admin/users?search=b", headers=headers), 2, 60)
    assert (await client.get("/api/v1/admin/users", headers=headers)).status_code == 200


async def test_a_request_that_is_refused_for_its_fields_counts_too(start_app: StartApp) -> None:
    client = await start_app(limit_login="2/minute")
    path, incomplete = "/api/v1/auth/token", {"username": "ann"}
    for _ in range(2):
        assert (await client.post(path, data=incomplete)).status_code == 422
    check_refusal(await client.post(path, data=incomplete), 2, 60)


async def test_the_default_limits_every_endpoint_by_itself(start_app: StartApp) -> None:
    client = await start_app(limit_default="2/minute")
    for path in ("/api/v1/items", "/api/v1/items/1"):
        for _ in range(2):
            assert (await client.get(path)).status_code in {200, 404}
        check_refusal(await client.get(path), 2, 60)
    # By the endpoint, not by the address: another item is the same endpoint.
    check_refusal(await client.get("/api/v1/items/2"), 2, 60)


async def test_health_and_metrics_have_no_limit(start_app: StartApp) -> None:
    client = await start_app(limit_default="1/hour")
    for path in ("/health", "/metrics", "/health/ready"):
        for _ in range(3):
            assert (await client.get(path)).status_code == 200


async def test_users_behind_one_address_do_not_share_a_limit(start_app: StartApp) -> None:
    client = await start_app(limit_default="3/hour")
    headers = []
    for name in ("ann", "bob"):
        await register(client, name)
        token = (await log_in(client, name)).json()["access_token"]
        headers.append({"Authorization": f"Bearer {token}"})
    for _ in range(3):
        assert (await client.get("/api/v1/users/me", headers=headers[0])).status_code == 200
    check_refusal(await client.get("/api/v1/users/me", headers=headers[0]), 3, 3600)
    assert (await client.get("/api/v1/users/me", headers=headers[1])).status_code == 200


async def keys_of(client: httpx.AsyncClient, *names: str) -> list[dict[str, str]]:
    """Make accounts, each with an API key, and return the headers that bring the keys."""
    headers = []
    for name in names:
        await register(client, name)
        token = (await log_in(client, name)).json()["access_token"]
        proof = {"Authorization": f"Bearer {token}"}
        made = await client.post("/api/v1/api-keys/generate", headers=proof)
        headers.append({"X-API-Key": made.json()["api_key"]})
    return headers


async def test_an_api_key_is_counted_for_its_user_at_every_address(
    start_app: StartApp, sql: RunSql
) -> None:
    client = await start_app(limit_default="3/hour")
    ann, bob = await keys_of(client, "ann", "bob")
    elsewhere = httpx.ASGITransport(client.application, client=("192.0.2.8", 1))  # type: ignore[attr-defined]
    async with httpx.AsyncClient(transport=elsewhere, base_url="http://testserver") as other:
        for one in (client, other, client):
            assert (await one.get("/api/v1/users/me", headers=ann)).status_code == 200
        for one in (client, other):
            check_refusal(await one.get("/api/v1/users/me", headers=ann), 3, 3600)
    assert (await client.get("/api/v1/users/me", headers=bob)).status_code == 200
    assert [event["user_id"] for event in events(sql, "event = 'limit.exceeded'")] == [1]


async def test_guessing_keys_is_limited_by_the_address(
    start_app: StartApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start_app(limit_default="3/hour")
    for number in range(3):
        answer = await client.get("/api/v1/users/me", headers={"X-API-Key": f"hak_{number}"})
        assert answer.status_code == 401
    check_refusal(await client.get("/api/v1/users/me", headers={"X-API-Key": "hak_4"}), 3, 3600)
    resources = client.application.state.resources  # type: ignore[attr-defined]
    # From now on nobody is asked.
    monkeypatch.setattr(resources.identities, "by_key", None)
    check_refusal(await client.get("/api/v1/users/me", headers={"X-API-Key": "hak_5"}), 3, 3600)


REPORTS = "/api/v1/reports"


@pytest.mark.parametrize("used", [True, False])
async def test_anonymous_requests_lock_out_no_key_of_their_address(
    start_app: StartApp, *, used: bool
) -> None:
    client = await start_app(limit_report="2/hour")
    (ann,) = await keys_of(client, "ann")
    if used:
        assert (await client.get("/api/v1/users/me", headers=ann)).status_code == 200
    assert [(await client.post(REPORTS)).status_code for _ in range(3)] == [401, 401, 429]
    statuses = [(await client.post(REPORTS, headers=ann)).status_code for _ in range(3)]
    assert statuses == [202, 202, 429]


async def test_bad_keys_lock_out_no_key_that_was_good_before(
    start_app: StartApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start_app(limit_report="2/hour")
    ann, bob = await keys_of(client, "ann", "bob")
    for good in (ann, bob):
        assert (await client.get("/api/v1/users/me", headers=good)).status_code == 200
    # From now on bob's is one of the bad ones, which wait without a question to the database.
    token = (await log_in(client, "bob")).json()["access_token"]
    proof = {"Authorization": f"Bearer {token}"}
    assert (await client.delete("/api/v1/api-keys/revoke", headers=proof)).status_code == 200
    bad = (bob, {"X-API-Key": "hak_1"}, {"X-API-Key": "hak_2"})
    statuses = [(await client.post(REPORTS, headers=one)).status_code for one in bad]
    assert statuses == [401, 401, 429]
    assert (await client.post(REPORTS, headers=ann)).status_code == 202
    resources = client.application.state.resources  # type: ignore[attr-defined]
    monkeypatch.setattr(resources.identities, "by_key", None)
    for one in bad:
        check_refusal(await client.post(REPORTS, headers=one), 2, 3600)


def test_the_keys_used_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exhausted, "_REMEMBERED", 2)
    keys = GoodKeys()
    for key, user_id in (("a", 1), ("b", 2), ("a", 1), ("c", 3)):
        keys.note(key, user_id)
    assert [keys.user_of(key) for key in "abc"] == [1, None, 3]
    keys.forget("c")
    assert keys.user_of("c") is None


async def test_an_outage_of_the_database_is_counted_for_nobody(
    start_app: StartApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start_app(limit_report="2/hour")
    (key,) = await keys_of(client, "ann")
    await register(client, "bob")
    token = (await log_in(client, "bob")).json()["access_token"]
    callers = (key, {"Authorization": f"Bearer {token}"})
    identities = client.application.state.resources.identities  # type: ignore[attr-defined]

    async def away(*_: object) -> None:
        raise UnavailableError

    with monkeypatch.context() as outage:
        outage.setattr(identities, "by_key", away)
        outage.setattr(identities, "by_claims", away)
        for headers in callers:
            for _ in range(3):
                assert (await client.post(REPORTS, headers=headers)).status_code == 503
    for headers in callers:
        assert (await client.post(REPORTS, headers=headers)).status_code == 202


@pytest.mark.parametrize(
    ("attacked", "given", "status"),
    [
        ("auth/change-password", {"current_password": "x", "new_password": "y"}, 401),
        ("users/verify-email", {"token": "x"}, 400),
        ("users/password-reset", {"token": "x", "new_password": PASSWORD}, 400),
    ],
)
async def test_the_token_of_a_session_that_has_ended_uses_up_no_limit_of_its_user(
    start_app: StartApp, sql: RunSql, attacked: str, given: dict[str, str], status: int
) -> None:
    client = await start_app(limit_secret="2/hour")
    await register(client, "ann")
    stolen, own = [
        {"Authorization": f"Bearer {(await log_in(client, 'ann')).json()['access_token']}"}
        for _ in range(2)
    ]
    await asyncio.to_thread(sql, "UPDATE sessions SET ended_at = now() WHERE id = 1")
    path, body = "/api/v1/auth/change-password", {"current_password": "x", "new_password": "y"}
    statuses = [
        (await client.post(f"/api/v1/{attacked}", json=given, headers=stolen)).status_code
        for _ in range(3)
    ]
    assert statuses == [status, status, 429]
    assert (await client.post(path, json=body, headers=own)).status_code in {403, 422}


async def test_a_header_or_a_forged_token_gives_no_new_limit(start_app: StartApp) -> None:
    client = await start_app(limit_login="2/minute")
    answers = [
        await client.post(
            "/api/v1/auth/token",
            data={"username": "ann", "password": "x"},
            headers={
                "X-Forwarded-For": f"198.51.100.{number}",
                "X-Real-IP": f"198.51.100.{number}",
                "Authorization": f"Bearer forged.token.{number}",
            },
        )
        for number in range(4)
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 429, 429]


async def test_an_account_brings_no_more_guesses_at_others(start_app: StartApp) -> None:
    client = await start_app(limit_login="2/minute")
    await register(client, "ann")
    token = (await log_in(client, "ann")).json()["access_token"]
    assert (await log_in(client, "bob")).status_code == 401
    client.headers["Authorization"] = f"Bearer {token}"
    check_refusal(await log_in(client, "bob"), 2, 60)


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("192.0.2.7", "address:192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::"),
        ("2001:db8:1:2::9", "address:2001:db8:1:2::"),
        ("fe80::1%eth0", "address:fe80::"),
        ("::ffff:192.0.2.7", "address:192.0.2.7"),
        ("::ffff:c000:208", "address:192.0.2.8"),
    ],
)
def test_an_address_of_ipv6_counts_as_its_network(address: str, named: str) -> None:
    assert caller(Request({"type": "http", "state": {}, "client": (address, 1)})) == named


def test_a_caller_without_an_address_is_counted_as_local() -> None:
    assert caller(Request({"type": "http", "state": {}})) == "address:local"


async def test_a_store_that_hangs_does_not_hold_up_other_requests(
    start_app: StartApp, redis_server: RedisServer
) -> None:
    client = await start_app(limit_search="1000/minute", cache_timeout=3)
    assert (await client.get("/api/v1/items?search=x")).status_code == 200
    with redis_server.stopped():
        waiting = [asyncio.create_task(client.get("/api/v1/items?search=x")) for _ in range(20)]
        await asyncio.sleep(0)
        for _ in range(5):
            assert (await client.get("/health")).status_code == 200
        # Asked on the event loop, the store would have been waited for first.
        assert not any(task.done() for task in waiting)
        answers = await asyncio.gather(*waiting)
    assert {answer.status_code for answer in answers} == {200}


async def test_limits_are_counted_in_memory_while_the_store_is_down(
    start_app: StartApp, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await start_app(limit_login="3/minute")
    before = metrics.LIMIT_STORE_FAILURES._value.get()
    with redis_server.stopped():
        for _ in range(3):
            assert (await log_in(client, "ann")).status_code == 401
        check_refusal(await log_in(client, "ann"), 3, 60)
    assert metrics.LIMIT_STORE_FAILURES._value.get() - before == 4
    assert "limits.store_down" in capsys.readouterr().err


async def test_the_store_is_used_again_when_it_is_back(
    start_app: StartApp, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_redis() as server:
        client = await start_app(limit_default="100/minute", cache_url=server.url)
        with server.stopped():
            assert (await client.get("/api/v1/items")).status_code == 200
        deadline = time.monotonic() + 10
        while "limits.store_up" not in capsys.readouterr().err:
            assert time.monotonic() < deadline
            assert (await client.get("/api/v1/items")).status_code == 200
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("path", ["/api/v1/items", "/api/v1/items?search=x"])
async def test_more_requests_at_once_than_connections_are_all_counted(
    start_app: StartApp, redis_server: RedisServer, path: str
) -> None:
    client = await start_app(
        limit_default="310/hour",
        limit_search="310/hour",
        cache_timeout=20,
        database_pool_timeout=60,
    )
    before = metrics.LIMIT_STORE_FAILURES._value.get()
    answers = await asyncio.gather(*(client.get(path) for _ in range(300)))
    assert {answer.status_code for answer in answers} == {200}
    assert metrics.LIMIT_STORE_FAILURES._value.get() == before
    statuses = [(await client.get(path)).status_code for _ in range(11)]
    assert statuses == [*[200] * 10, 429]
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as store:
        # Those of the limits and of the cache, one of the test, and what others have left open.
        assert await asyncio.to_thread(lambda: len(store.client_list())) < 100


async def test_who_finds_no_connection_to_the_store_free_passes_in_time(
    start_app: StartApp, redis_server: RedisServer
) -> None:
    client = await start_app(limit_search="1000/minute", cache_timeout=0.5)
    with redis_server.stopped():
        began = time.monotonic()
        answers = await asyncio.gather(*(client.get("/api/v1/items?search=x") for _ in range(100)))
        # Twice the time-out, and what a hundred requests take on a busy machine.
        assert time.monotonic() - began < 15
    assert {answer.status_code for answer in answers} == {200}


async def test_a_store_that_does_not_exist(start_app: StartApp) -> None:
    client = await start_app(limit_login="2/minute", cache_url="unix:///nonexistent/socket")
    for _ in range(2):
        assert (await log_in(client, "ann")).status_code == 401
    check_refusal(await log_in(client, "ann"), 2, 60)


async def test_a_store_with_a_password(start_app: StartApp) -> None:
    with running_redis("--requirepass", "open sesame") as server:
        one, other = [
            await start_app(
                limit_login="2/minute", cache_url=server.url, cache_password="open sesame"
            )
            for _ in range(2)
        ]
        for client in (one, other):
            assert (await log_in(client, "ann")).status_code == 401
        check_refusal(await log_in(one, "ann"), 2, 60)
        assert (await one.get("/health/ready")).json()["checks"]["cache"] == "ok"


async def test_without_a_store_each_instance_counts_for_itself(start_app: StartApp) -> None:
    one, other = [await start_app(limit_login="1/minute", cache_url=None) for _ in range(2)]
    for client in (one, other):
        assert (await log_in(client, "ann")).status_code == 401
        check_refusal(await log_in(client, "ann"), 1, 60)


async def test_an_empty_limit_is_none(start_app: StartApp) -> None:
    client = await start_app(limit_login="")
    answers = [await log_in(client, "ann") for _ in range(8)]
    assert {answer.status_code for answer in answers} == {401}


async def test_the_working_directory_and_the_environment_change_nothing(
    start_app: StartApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("RATELIMIT_ENABLED=0\nAPP_RELEASE=from-dotenv\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RATELIMIT_ENABLED", "0")
    client = await start_app(limit_login="1/minute")
    assert (await log_in(client, "ann")).status_code == 401
    check_refusal(await log_in(client, "ann"), 1, 60)
    assert (await client.get("/health")).json()["release"] == "v9.8.7"


async def test_a_refusal_is_counted(start_app: StartApp, login: Login) -> None:
    client = await start_app(limit_login="1/minute")
    before = metrics.LIMITED.labels("create_token")._value.get()
    await log_in(client, "ann")
    await log_in(client, "ann")
    assert metrics.LIMITED.labels("create_token")._value.get() - before == 1
