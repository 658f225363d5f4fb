"""Sessions of browsers: their cookies, and what keeps other pages from using them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from tests.app.conftest import PASSWORD, SECRET, Login, RunSql, StartApp, events, register

ACCESS, REFRESH, CSRF = "__Host-access", "__Secure-refresh", "__Host-csrf"
AUTH = "/api/v1/auth"
ME = "/api/v1/users/me"
OTHER = "another-secret-for-tests-that-is-long-enough-for-each-of-the-hmac-algorithms"
REFUSED = (403, "csrf_failed")

OpenBrowser = Callable[..., Any]


@pytest.fixture
async def open_browser(client: httpx.AsyncClient) -> AsyncIterator[OpenBrowser]:
    """Open a browser, which keeps cookies and sends those marked as secure over TLS alone."""
    async with AsyncExitStack() as stack:

        async def go(of: httpx.AsyncClient = client) -> httpx.AsyncClient:
            application: Any = of.application  # type: ignore[attr-defined]
            transport = httpx.ASGITransport(application, client=("192.0.2.7", 4711))
            browser = httpx.AsyncClient(transport=transport, base_url="https://testserver")
            return await stack.enter_async_context(browser)

        yield go


async def enter(browser: httpx.AsyncClient, name: str = "ann", **headers: str) -> httpx.Response:
    form = {"username": name, "password": PASSWORD}
    return await browser.post(f"{AUTH}/login", data=form, headers=headers)


@pytest.fixture
async def browser(client: httpx.AsyncClient, open_browser: OpenBrowser) -> httpx.AsyncClient:
    """A browser that is logged in."""
    await register(client, "ann")
    opened: httpx.AsyncClient = await open_browser()
    assert (await enter(opened)).status_code == 200
    return opened


def csrf(browser: httpx.AsyncClient) -> dict[str, str]:
    return {"X-CSRF-Token": browser.cookies[CSRF]}


def outcome(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def cookies_of(answer: httpx.Response) -> dict[str, dict[str, Any]]:
    found = {}
    for header in answer.headers.get_list("set-cookie"):
        ((name, morsel),) = SimpleCookie(header).items()
        assert name not in found
        found[name] = {"value": morsel.value, **{k: v for k, v in morsel.items() if v}}
    return found


async def test_a_login_gives_three_cookies_and_no_token_in_the_body(
    client: httpx.AsyncClient, open_browser: OpenBrowser
) -> None:
    await register(client, "ann")
    answer = await enter(await open_browser())
    assert answer.status_code == 200
    cookies = cookies_of(answer)
    values = {name: cookie.pop("value") for name, cookie in cookies.items()}
    every = {"secure": True, "samesite": "strict"}
    assert cookies == {
        ACCESS: {**every, "httponly": True, "path": "/", "max-age": "900"},
        REFRESH: {**every, "httponly": True, "path": "/api/v1/auth", "max-age": "604800"},
        CSRF: {**every, "path": "/", "max-age": "604800"},
    }
    body = answer.json()
    assert set(body) == {"csrf_token", "expires_in", "scope"}
    assert body["csrf_token"] == values[CSRF]
    assert values[ACCESS] not in answer.text
    assert values[REFRESH] not in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_a_failed_login_gives_no_cookie(
    client: httpx.AsyncClient, open_browser: OpenBrowser
) -> None:
    answer = await enter(await open_browser(), "nobody")
    assert answer.status_code == 401
    assert cookies_of(answer) == {}


async def test_the_cookie_alone_reads(browser: httpx.AsyncClient) -> None:
    assert (await browser.get(ME)).json()["username"] == "ann"
    (session,) = (await browser.get(f"{AUTH}/sessions")).json()["sessions"]
    assert (session["kind"], session["current"]) == ("cookie", True)


WRITES = [
    ("PUT", ME, {"full_name": "Ann"}, 200),
    ("POST", "/api/v1/items", {"title": "A", "price": "1.00", "quantity": 1}, 201),
    ("POST", "/api/v1/api-keys", {"name": "script"}, 201),
    ("POST", "/api/v1/api-keys/generate", None, 200),
    ("POST", "/api/v1/users/verify-email/request", None, 202),
    (
        "POST",
        f"{AUTH}/change-password",
        {"current_password": PASSWORD, "new_password": "Better-horse-8"},
        204,
    ),
    ("DELETE", f"{AUTH}/sessions/1", None, 204),
    ("POST", f"{AUTH}/refresh", None, 200),
    ("POST", f"{AUTH}/logout", None, 204),
    ("DELETE", ME, None, 204),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), WRITES)
async def test_a_write_needs_the_csrf_token_of_its_own_session(
    browser: httpx.AsyncClient,
    open_browser: OpenBrowser,
    client: httpx.AsyncClient,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: int,
) -> None:
    await register(client, "bob")
    other = await open_browser()
    await enter(other, "bob")
    own, foreign = browser.cookies[CSRF], other.cookies[CSRF]
    assert own != foreign
    for wrong in (None, "", "x", foreign, own[:-1], "ß"):
        headers = {} if wrong is None else {b"X-CSRF-Token": wrong.encode()}
        answer = await browser.request(method, path, json=body, headers=headers)
        assert outcome(answer) == REFUSED
        assert cookies_of(answer) == {}
    answer = await browser.request(method, path, json=body, headers={"X-CSRF-Token": own})
    assert answer.status_code == status, answer.text


async def test_a_logout_by_a_token_in_the_body_leaves_the_session_of_the_cookies(
    browser: httpx.AsyncClient,
) -> None:
    answer = await browser.post(f"{AUTH}/logout", json={"refresh_token": "hrt_unknown"})
    assert answer.status_code == 401
    assert (await browser.get(ME)).status_code == 200


async def test_the_signing_key_is_changed_without_logging_a_browser_out(
    start_app: StartApp, open_browser: OpenBrowser
) -> None:
    before = await start_app()
    await register(before, "ann")
    browser = await open_browser(before)
    await enter(browser)
    both = await open_browser(await start_app(token_secret=OTHER, token_accepted_secret=SECRET))
    both.cookies.update(browser.cookies)
    assert (await both.put(ME, json={"full_name": "Ann"}, headers=csrf(both))).status_code == 200
    assert (await both.post(f"{AUTH}/refresh", headers=csrf(both))).status_code == 200
    done = await open_browser(await start_app(token_secret=OTHER))
    done.cookies.update(both.cookies)
    assert (await done.put(ME, json={"full_name": "A"}, headers=csrf(done))).status_code == 200


@pytest.mark.parametrize(
    ("origin", "good"),
    [
        ("https://testserver", True),
        ("https://www.example.com", True),
        ("http://testserver", False),
        ("https://testserver.evil.example", False),
        ("https://evil.example", False),
        ("https://testserver:8443", False),
        ("null", False),
        ("", False),
    ],
)
async def test_a_page_of_somebody_else_is_refused(
    start_app: StartApp, open_browser: OpenBrowser, origin: str, good: bool
) -> None:
    client = await start_app(cors_origins=["https://www.example.com"])
    await register(client, "ann")
    browser = await open_browser(client)
    answer = await enter(browser, Origin=origin)
    assert answer.status_code == (200 if good else 403)
    if not good:
        assert outcome(answer) == REFUSED
        named = f'The Origin "{origin}" is neither that of "testserver" nor'
        assert answer.json()["error"]["message"].startswith(named)
        assert cookies_of(answer) == {}
    await enter(browser)
    for method, path, body in (
        ("PUT", ME, {"full_name": "Ann"}),
        ("POST", f"{AUTH}/refresh", None),
    ):
        headers = {**csrf(browser), "Origin": origin}
        answer = await browser.request(method, path, json=body, headers=headers)
        assert answer.status_code == (200 if good else 403)


async def test_a_refresh_by_cookie_rotates_all_cookies(browser: httpx.AsyncClient) -> None:
    before = {name: browser.cookies[name] for name in (ACCESS, REFRESH)}
    answer = await browser.post(f"{AUTH}/refresh", headers=csrf(browser))
    assert answer.status_code == 200
    after = {name: cookie["value"] for name, cookie in cookies_of(answer).items()}
    assert set(after) == {ACCESS, REFRESH, CSRF}
    assert all(after[name] != before[name] for name in before)
    assert set(answer.json()) == {"csrf_token", "expires_in", "scope"}
    assert (await browser.get(ME)).status_code == 200
    assert (await browser.put(ME, json={}, headers=csrf(browser))).status_code == 200


async def test_a_refresh_without_any_token_is_refused(
    client: httpx.AsyncClient, open_browser: OpenBrowser
) -> None:
    answer = await (await open_browser()).post(f"{AUTH}/refresh")
    assert outcome(answer) == (401, "not_authenticated")


@pytest.mark.parametrize("expired", [False, True])
async def test_logging_out_ends_the_session_and_clears_the_cookies(
    browser: httpx.AsyncClient, expired: bool
) -> None:
    token, access = csrf(browser), browser.cookies[ACCESS]
    refresh_token = browser.cookies[REFRESH]
    if expired:
        browser.cookies.delete(ACCESS)
    answer = await browser.post(f"{AUTH}/logout", headers=token)
    assert answer.status_code == 204
    cleared = cookies_of(answer)
    assert {name: (one["path"], one["max-age"]) for name, one in cleared.items()} == {
        ACCESS: ("/", "0"),
        REFRESH: ("/api/v1/auth", "0"),
        CSRF: ("/", "0"),
    }
    assert dict(browser.cookies) == {}
    headers = {"Authorization": f"Bearer {access}"}
    assert (await browser.get(ME, headers=headers)).status_code == 401
    answer = await browser.post(f"{AUTH}/refresh", json={"refresh_token": refresh_token})
    assert answer.status_code == 401


async def test_a_new_login_ends_the_session_that_the_browser_had(
    browser: httpx.AsyncClient, open_browser: OpenBrowser, client: httpx.AsyncClient, sql: RunSql
) -> None:
    elsewhere = await open_browser()
    await enter(elsewhere)
    old = {"Authorization": f"Bearer {browser.cookies[ACCESS]}"}
    assert (await client.get(ME, headers=old)).status_code == 200
    assert (await enter(browser)).status_code == 200
    assert (await client.get(ME, headers=old)).status_code == 401
    assert (await browser.get(ME)).status_code == 200
    assert (await elsewhere.get(ME)).status_code == 200
    reasons = sql("SELECT id, end_reason FROM sessions ORDER BY id").splitlines()
    assert reasons == ["1|replaced_by_login", "2|", "3|"]
    (event,) = events(sql, "event = 'session.ended'")
    assert (event["user_id"], event["actor_id"]) == (1, 1)
    assert event["details"] == {"session": 1, "reason": "replaced_by_login"}


async def test_the_end_of_somebody_elses_session_names_its_owner(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, sql: RunSql
) -> None:
    await register(client, "bob")
    assert (await enter(browser, "bob")).status_code == 200
    (event,) = events(sql, "event = 'session.ended'")
    assert (event["user_id"], event["actor_id"]) == (1, 2)
    # What has ended already ends no second time.
    browser.cookies.clear()
    assert (await enter(browser, "bob")).status_code == 200
    sql("UPDATE sessions SET ended_at = now(), end_reason = 'logout' WHERE ended_at IS NULL")
    assert (await enter(browser, "bob")).status_code == 200
    assert len(events(sql, "event = 'session.ended'")) == 1


async def test_a_failed_login_leaves_the_session_alone(browser: httpx.AsyncClient) -> None:
    form = {"username": "ann", "password": "Wrong-horse-7"}
    assert (await browser.post(f"{AUTH}/login", data=form)).status_code == 401
    assert (await browser.get(ME)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer x.y.z"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": ""},
        {"X-API-Key": "hak_" + "a" * 43},
        {"X-API-Key": ""},
        {"X-API-Key": "a" * 500},
    ],
)
async def test_a_cookie_does_not_rescue_another_credential(
    browser: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert (await browser.get(ME)).status_code == 200
    assert (await browser.get(ME, headers=headers)).status_code == 401
    answer = await browser.put(ME, json={}, headers={**csrf(browser), **headers})
    assert answer.status_code == 401


async def test_a_token_in_the_header_needs_no_csrf_token(
    browser: httpx.AsyncClient, login: Login
) -> None:
    headers = await login("bob")
    answer = await browser.put(ME, json={"full_name": "Bob"}, headers=headers)
    assert (answer.status_code, answer.json()["username"]) == (200, "bob")


async def test_pages_of_listed_origins_may_send_the_cookies(start_app: StartApp) -> None:
    client = await start_app(cors_origins=["https://www.example.com"])
    for origin, allowed in (("https://www.example.com", "true"), ("https://evil.example", None)):
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "X-CSRF-Token",
        }
        answer = await client.options(ME, headers=asked)
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
        assert (answer.status_code == 200) == bool(allowed)
