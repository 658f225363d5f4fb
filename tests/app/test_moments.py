"""Instants that clients send."""

import httpx

from tests.app.conftest import Login

FIRST, LAST = "0001-01-01T00:00:00", "9999-12-31T23:59:59"


async def test_a_moment_outside_of_the_calendar_is_refused(
    client: httpx.AsyncClient, login: Login
) -> None:
    headers = await login("ann", role="admin")
    for moment, status in (
        (f"{FIRST}+00:00", 200),
        (f"{LAST}+00:00", 200),
        (f"{FIRST}+23:59", 422),
        (f"{LAST}-23:59", 422),
        (FIRST, 422),
        ("99999999999999999", 422),
        ("1e308", 422),
    ):
        for bound in ("since", "until"):
            query = {bound: moment}
            answer = await client.get("/api/v1/admin/audit", params=query, headers=headers)
            assert answer.status_code == status, answer.text


async def test_a_key_cannot_end_after_the_calendar(client: httpx.AsyncClient, login: Login) -> None:
    headers = await login("ann")
    for moment, status in ((f"{LAST}+00:00", 201), (f"{LAST}-23:59", 422), (f"{FIRST}+00:00", 422)):
        body = {"name": "script", "expires_at": moment}
        answer = await client.post("/api/v1/api-keys", json=body, headers=headers)
        assert answer.status_code == status, answer.text
