"""The console as a process of its own, with the settings of a host."""

import asyncio
import json
import os
import pty
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.conftest import PASSWORD, Login, RunSql, events, log_in, register
from tests.app.consoles import Result, RunConsole, sentence
from tests.app.test_lockout import WRONG
from tests.services import ROOT

CREATE = ("create-admin", "root", "Root@Example.com")


async def test_an_administrator_is_made_with_a_password_from_standard_input(
    client: httpx.AsyncClient, console: RunConsole, sql: RunSql
) -> None:
    made = await asyncio.to_thread(
        console, *CREATE, "--full-name", "Rosa", "--password-file", "-", given=f"{PASSWORD}\n"
    )
    assert (made.returncode, made.stdout) == (0, "root is super_admin now (account 1).\n")
    tokens = (await log_in(client, "root")).json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    me = (await client.get("/api/v1/users/me", headers=headers)).json()
    assert {key: me[key] for key in ("email", "full_name", "role", "email_verified")} == {
        "email": "root@example.com",
        "full_name": "Rosa",
        "role": "super_admin",
        "email_verified": True,
    }
    (event,) = events(sql, "event = 'account.registered'")
    assert (event["user_id"], event["actor_id"], event["details"]) == (
        1,
        None,
        {"operator": "olga", "role": "super_admin"},
    )
    lines = [json.loads(line) for line in made.stderr.splitlines()]
    assert [line["audit_operator"] for line in lines] == ["olga"]
    assert sql("SELECT count(*) FROM procrastinate_jobs") == "0"


async def test_an_administrator_is_made_with_a_password_from_a_file(
    client: httpx.AsyncClient, console: RunConsole, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\nsecond line\n")
    made = console(*CREATE, "--role", "admin", "--password-file", str(path))
    assert (made.returncode, made.stdout) == (0, "root is admin now (account 1).\n")
    assert (await log_in(client, "root")).status_code == 200


def at_terminal(environment: dict[str, str], *answers: str) -> tuple[int, str]:
    """Make an administrator by answering at a terminal; return the status and what it shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, "-m", "app.console", *CREATE], environment)
    shown = b""
    waiting = list(answers)
    while True:
        try:
            read = os.read(terminal, 1024)
        except OSError:
            break
        if not read:
            break
        shown += read
        if waiting and shown.rstrip(b" ").endswith((b"Password:", b"Again:")):
            os.write(terminal, waiting.pop(0).encode())
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(
    environment: dict[str, str], sql: RunSql
) -> None:
    status, shown = at_terminal(environment, f"{PASSWORD}\n", f"{WRONG}\n")
    assert status == 1
    assert "The two passwords differ: nothing was changed." in shown
    status, ended = at_terminal(environment, "\x04")
    assert status == 1
    assert "Traceback" not in ended
    assert sql("SELECT count(*) FROM users") == "0"
    status, made = at_terminal(environment, f"{PASSWORD}\n", f"{PASSWORD}\n")
    assert status == 0
    assert "root is super_admin now" in made
    for text in (shown, made):
        assert "Password:" in text
        assert "Again:" in text
        assert PASSWORD not in text
        assert WRONG not in text


@pytest.mark.parametrize(
    ("arguments", "given", "reason"),
    [
        ((*CREATE, "--password-file", "-"), "password\n", "A password needs"),
        ((*CREATE, "--password-file", "-"), "", "8 to 128"),
        ((*CREATE, "--password-file", "/no/such/file"), "", "/no/such/file cannot be read"),
        (CREATE, "", "There is no terminal to ask for the password"),
        (("create-admin", "a b", "a@example.com", "--password-file", "-"), PASSWORD, "username:"),
        (("create-admin", "root", "nobody", "--password-file", "-"), PASSWORD, "email:"),
        (("create-admin", "ANN", "x@example.com", "--password-file", "-"), PASSWORD, "is taken"),
        (
            ("create-admin", "root", "ANN@example.com", "--password-file", "-"),
            PASSWORD,
            "belongs to another account",
        ),
        *(
            ((*command, "nobody", *more), "", "There is no account with this name or address")
            for command, *more in (
                (("unlock",),),
                (("deactivate",),),
                (("activate",),),
                (("set-role",), "admin"),
                (("set-email",), "nobody@example.com"),
                (("end-sessions",),),
            )
        ),
        (("unlock", "no@example.com"), "", "There is no account"),
        (("set-email", "ann", "nobody"), "", "address: value is not a valid email address"),
        (("set-email", "ann", "änn@example.com"), "", "ASCII characters only"),
        (("end-sessions",), "", "end-sessions NAME | --all"),
        (("end-sessions", "ann", "--all"), "", "end-sessions NAME | --all"),
        ((b"unlock", b"\xff"), "", "UTF-8"),
        ((b"list", b"--search", b"\xff"), "", "UTF-8"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_sentence(
    client: httpx.AsyncClient,
    console: RunConsole,
    sql: RunSql,
    arguments: tuple[Any, ...],
    given: str,
    reason: str,
) -> None:
    await register(client, "ann")
    assert reason in sentence(await asyncio.to_thread(console, *arguments, given=given))
    assert sql("SELECT count(*), min(role) FROM users") == "1|user"
    assert [one["event"] for one in events(sql)] == ["account.registered"]


def test_settings_and_databases_that_cannot_work_are_said_in_one_sentence(
    console: RunConsole, database_url: str, tmp_path: Path
) -> None:
    missing = console("list", CREDENTIALS_DIRECTORY=str(tmp_path))
    assert "token_secret" in sentence(missing)
    away = f"postgresql+asyncpg://harbour@/harbour?host={tmp_path}"
    assert "cannot answer" in sentence(console("list", APP_DATABASE_URL=away))
    empty = database_url.replace("/harbour?", "/postgres?")
    assert "UndefinedTableError" in sentence(console("list", APP_DATABASE_URL=empty))
    assert console("no-such-command").returncode == 2


async def test_accounts_are_listed(
    client: httpx.AsyncClient, console: RunConsole, sql: RunSql
) -> None:
    for name in ("ann", "bob", "under_score"):
        await register(client, name)
    lines = (await asyncio.to_thread(console, "list")).stdout.splitlines()
    assert [line.split()[:4] for line in lines] == [
        [str(number), "user", "active", name]
        for number, name in enumerate(("ann", "bob", "under_score"), 1)
    ]
    found = await asyncio.to_thread(console, "list", "--json", "--search", "R_S")
    (line,) = [json.loads(text) for text in found.stdout.splitlines()]
    assert line.pop("created_at")
    assert line == {
        "id": 3,
        "username": "under_score",
        "email": "under_score@example.com",
        "role": "user",
        "is_active": True,
        "email_verified": False,
    }
    assert (await asyncio.to_thread(console, "list", "--role", "admin")).stdout == ""
    listed = events(sql, "event = 'account.listed'")
    assert [one["details"] for one in listed] == [{"operator": "olga"}] * 3


async def test_an_account_is_unlocked_deactivated_and_activated(
    client: httpx.AsyncClient, console: RunConsole, login: Login, sql: RunSql
) -> None:
    headers = await login("ann")
    for _ in range(5):
        await log_in(client, "ann", WRONG)
    assert (await log_in(client, "ann")).status_code == 401

    async def say(*arguments: str) -> str:
        result = await asyncio.to_thread(console, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert await say("unlock", "ANN@example.com") == "ann is unlocked.\n"
    assert await say("unlock", "ann") == "ann was not locked.\n"
    assert (await log_in(client, "ann")).status_code == 200
    assert (await say("deactivate", "ann")).startswith("ann is deactivated")
    assert (await client.get("/api/v1/users/me", headers=headers)).status_code == 401
    assert (await log_in(client, "ann")).status_code == 401
    assert await say("activate", "ann") == "ann is active.\n"
    assert (await client.get("/api/v1/users/me", headers=headers)).status_code == 401
    assert (await log_in(client, "ann")).status_code == 200
    acted = events(sql, "details->>'operator' = 'olga'")
    assert [one["event"] for one in acted] == [
        "account.unlocked",
        "account.unlocked",
        "account.deactivated",
        "account.activated",
    ]
    assert {(one["user_id"], one["actor_id"], one["client_address"]) for one in acted} == {
        (1, None, None)
    }


async def test_roles_are_changed_and_the_last_super_administrator_is_protected(
    client: httpx.AsyncClient, console: RunConsole, sql: RunSql
) -> None:
    await register(client, "ann")
    await register(client, "bob")

    async def run(*arguments: str) -> Result:
        return await asyncio.to_thread(console, *arguments)

    made = await run("set-role", "ann", "super_admin")
    assert (made.returncode, made.stdout) == (0, "ann is super_admin now.\n")
    assert "only active super administrator" in sentence(await run("set-role", "ann", "user"))
    assert "only active super administrator" in sentence(await run("deactivate", "ann"))
    assert sql("SELECT role, is_active FROM users WHERE id = 1") == "super_admin|t"
    assert (await run("set-role", "bob", "super_admin")).returncode == 0
    assert (await run("deactivate", "ann")).returncode == 0
    # One that is deactivated does not count.
    assert "only active super administrator" in sentence(await run("set-role", "bob", "admin"))
    assert (await run("set-role", "ann", "user")).returncode == 0
    found = events(sql, "event = 'account.role_changed'")
    assert [one["details"] for one in found] == [
        {"old_role": "user", "new_role": "super_admin", "operator": "olga"},
        {"old_role": "user", "new_role": "super_admin", "operator": "olga"},
        {"old_role": "super_admin", "new_role": "user", "operator": "olga"},
    ]


async def test_sessions_are_ended_of_one_and_of_all(
    client: httpx.AsyncClient, console: RunConsole, login: Login
) -> None:
    ann, bob = await login("ann"), await login("bob")
    await log_in(client, "ann")

    async def statuses() -> list[int]:
        return [
            (await client.get("/api/v1/users/me", headers=one)).status_code for one in (ann, bob)
        ]

    ended = await asyncio.to_thread(console, "end-sessions", "ann")
    assert (ended.returncode, ended.stdout) == (0, "2 sessions of ann have ended.\n")
    assert await statuses() == [401, 200]
    ended = await asyncio.to_thread(console, "end-sessions", "--all")
    assert (ended.returncode, ended.stdout) == (0, "1 sessions of 2 accounts have ended.\n")
    assert await statuses() == [401, 401]
