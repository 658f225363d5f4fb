"""The service alone on an embedded database, as `make dev` runs it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import PASSWORD, SECRET, client_of, log_in, register
from tests.services import ROOT, python_module


@pytest.fixture
async def alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """One instance on a new SQLite file."""
    url = f"sqlite+aiosqlite:///{tmp_path}/development.sqlite3"
    made = await asyncio.to_thread(
        python_module, "migrations", "expand", APP_ENVIRONMENT="development", APP_DATABASE_URL=url
    )
    assert made.returncode == 0, made.stderr
    monkeypatch.chdir(ROOT)
    settings = Settings(
        environment="development",
        database_url=url,
        token_secret=SECRET,
        allowed_hosts=["testserver"],
        log_output="json",
    )
    async with client_of(create_app(settings)) as client:
        yield client


async def token_of_mail(capsys: pytest.CaptureFixture[str]) -> str:
    """The token of the mail that the log shows."""
    deadline, shown = time.monotonic() + 20, ""
    while time.monotonic() < deadline:
        shown += capsys.readouterr().err
        if found := re.search(r"hmt_[\w-]+", shown):
            return found[0]
        await asyncio.sleep(0.02)
    raise AssertionError(shown)


async def test_accounts_work_without_any_server(
    alone: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    made = await register(alone, "ann")
    assert (made.status_code, made.json()["email_verified"]) == (201, False)
    token = {"token": await token_of_mail(capsys)}
    verified = await alone.post("/api/v1/users/verify-email", json=token)
    assert verified.json()["email_verified"] is True
    assert (await log_in(alone, "ann", "Wrong-horse-7")).status_code == 401
    tokens = (await log_in(alone, "ann")).json()
    given = {"refresh_token": tokens["refresh_token"]}
    tokens = (await alone.post("/api/v1/auth/refresh", json=given)).json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    key = (await alone.post("/api/v1/api-keys/generate", headers=headers)).json()["api_key"]
    me = await alone.get("/api/v1/users/me", headers={"X-API-Key": key})
    assert me.json()["username"] == "ann"
    await alone.post("/api/v1/users/password-reset/request", json={"email": "ann@example.com"})
    reset = {"token": await token_of_mail(capsys), "new_password": f"{PASSWORD}-b"}
    assert (await alone.post("/api/v1/users/password-reset", json=reset)).status_code == 200
    assert (await alone.get("/api/v1/users/me", headers=headers)).status_code == 401
    assert (await log_in(alone, "ann", f"{PASSWORD}-b")).status_code == 200


async def test_things_are_found_without_any_server(alone: httpx.AsyncClient) -> None:
    await register(alone, "ann")
    token = (await log_in(alone, "ann")).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    for title in ("Blue LAMP", "ΟΔΟΣ", "İstanbul", "100% wool"):
        item = {"title": title, "price": "1.00"}
        assert (await alone.post("/api/v1/items", json=item, headers=headers)).status_code == 201
    for search, title in (
        ("lamp", "Blue LAMP"),
        ("ΟΔΟΣ", "ΟΔΟΣ"),
        ("İstanbul", "İstanbul"),
        ("0% W", "100% wool"),
    ):
        page = (await alone.get("/api/v1/items", params={"search": search})).json()
        assert [one["title"] for one in page["items"]] == [title]
