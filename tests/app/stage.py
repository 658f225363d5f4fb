"""An instance of the service with an account of every role, set back after each request."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import httpx

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import PASSWORD, client_of, empty_stores, log_in, register
from tests.services import PostgreSQL, RedisServer

Operation = tuple[str, str]

ROLES = ("user", "moderator", "admin", "super_admin")
SCOPES_OF_ROLE = {
    "user": "profile:read profile:write items:read items:write",
    "moderator": "profile:read profile:write items:read items:write items:delete users:read",
    "admin": "profile:read profile:write items:read items:write items:delete users:read "
    "users:write admin",
    "super_admin": "profile:read profile:write items:read items:write items:delete users:read "
    "users:write admin",
}
SCOPES = SCOPES_OF_ROLE["super_admin"].split()

NOBODY = "nobody"
SESSIONS = {role: f"session of {role}" for role in ROLES}
KEYS = {role: f"key of {role}" for role in ROLES}
CALLERS = (NOBODY, *SESSIONS.values(), *KEYS.values())

VERIFY, RESET = "hmt_verify", "hmt_reset"
ITEM = {"title": "Lamp", "price": "9.99", "quantity": 1}
BOOK = {"title": "Emma", "author": "Jane Austen", "isbn": "9780141439587", "price": "7.50"}
BODIES: dict[Operation, dict[str, Any]] = {
    ("POST", "/api/v1/users/register"): {
        "json": {"username": "newcomer", "email": "new@example.com", "password": PASSWORD}
    },
    ("PUT", "/api/v1/users/me"): {"json": {"full_name": "Somebody Else"}},
    ("POST", "/api/v1/users/verify-email"): {"json": {"token": VERIFY}},
    ("POST", "/api/v1/users/password-reset/request"): {"json": {"email": "victim@example.com"}},
    ("POST", "/api/v1/users/password-reset"): {
        "json": {"token": RESET, "new_password": "Better-horse-8"}
    },
    ("POST", "/api/v1/auth/token"): {"data": {"username": "victim", "password": PASSWORD}},
    ("POST", "/api/v1/auth/login"): {"data": {"username": "victim", "password": PASSWORD}},
    ("POST", "/api/v1/auth/change-password"): {
        "json": {"current_password": PASSWORD, "new_password": "Better-horse-8"}
    },
    ("POST", "/api/v1/api-keys"): {"json": {"name": "script"}},
    ("PUT", "/api/v1/admin/users/{user_id}/role"): {"params": {"new_role": "moderator"}},
    ("POST", "/api/v1/items"): {"json": ITEM},
    ("PUT", "/api/v1/items/{item_id}"): {"json": ITEM},
    ("PATCH", "/api/v1/items/{item_id}"): {"json": {"quantity": 2}},
    ("POST", "/api/v1/books"): {"json": BOOK},
    ("PUT", "/api/v1/books/{book_id}"): {"json": {"title": "Persuasion"}},
    ("POST", "/api/v1/files/upload"): {"files": {"file": ("notes.txt", b"Hello.")}},
    ("POST", "/api/v1/files/upload-multiple"): {
        "files": [("files", ("notes.txt", b"Hello.")), ("files", ("more.csv", b"a,b"))]
    },
}


class Stage:
    """One instance of the service with an account of every role, set back before each request."""

    TABLES = (
        "users",
        "sessions",
        "refresh_tokens",
        "api_keys",
        "items",
        "books",
        "files",
        "mail_tokens",
        "tasks",
    )

    def __init__(self, client: httpx.AsyncClient, connection: Any) -> None:
        self.client = client
        self.headers: dict[str, dict[str, str]] = {NOBODY: {}}
        self._connection = connection
        self._ids: dict[str, dict[str, int]] = {}
        self._refresh_token = ""
        self._granted: dict[str, dict[str, str]] = {}
        self._contents: dict[Path, bytes] = {}

    async def prepare(self) -> None:
        """Make the accounts with their sessions, keys and items, and remember the tables."""
        await register(self.client, "victim")
        for role in ROLES:
            await self._connection.execute(
                "INSERT INTO users (username, email, password_hash, role) SELECT $1::text, "
                "$1 || '@example.com', password_hash, $2::text FROM users WHERE id = 1",
                f"the-{role}",
                role,
            )
        for role in ROLES:
            await self._add_credentials(role)
        victim = (await log_in(self.client, "victim")).json()
        self._refresh_token = victim["refresh_token"]
        headers = bearer(victim["access_token"])
        made = await self.client.post("/api/v1/items", json=ITEM, headers=headers)
        book = await self._add_book(headers, 0)
        file = await self._add_file(headers)
        task = await self._ask_for_report(headers)
        ids = {"item_id": made.json()["id"], "book_id": book, "file_id": file, "task_id": task}
        self._ids["victim"] = {"user_id": 1, "key_id": 1, **ids}
        for token, purpose in ((VERIFY, "verify_email"), (RESET, "password_reset")):
            await self._connection.execute(
                "INSERT INTO mail_tokens (user_id, purpose, token_hash, email, expires_at) "
                "VALUES (1, $1, $2, 'victim@example.com', now() + interval '1 hour')",
                purpose,
                hashlib.sha256(token.encode()).digest(),
            )
        await self._keep()

    async def _keep(self) -> None:
        for table in self.TABLES:
            await self._connection.execute(f"DROP TABLE IF EXISTS kept_{table}")
            await self._connection.execute(f"CREATE TEMP TABLE kept_{table} AS TABLE {table}")
        settings: Settings = self.client.application.state.settings  # type: ignore[attr-defined]
        assert settings.file_folder
        for (name,) in await self._connection.fetch("SELECT stored_as FROM files"):
            path = settings.file_folder / "published" / name[:2] / name
            self._contents[path] = path.read_bytes()

    async def _add_credentials(self, role: str) -> None:
        first, second = [(await log_in(self.client, f"the-{role}")).json() for _ in range(2)]
        assert first["scope"] == SCOPES_OF_ROLE[role]
        headers = bearer(first["access_token"])
        wanted = {"name": "all", "scopes": SCOPES_OF_ROLE[role].split()}
        key = (await self.client.post("/api/v1/api-keys", json=wanted, headers=headers)).json()
        other = await self.client.post("/api/v1/api-keys/generate", headers=headers)
        assert other.status_code == 200
        item = (await self.client.post("/api/v1/items", json=ITEM, headers=headers)).json()
        book = await self._add_book(headers, 1 + ROLES.index(role))
        sessions = await self.client.get(
            "/api/v1/auth/sessions", headers=bearer(second["access_token"])
        )
        current = [one["id"] for one in sessions.json()["sessions"] if one["current"]]
        self.headers[SESSIONS[role]] = headers
        self.headers[KEYS[role]] = {"X-API-Key": key["api_key"]}
        ids = {"item_id": item["id"], "session_id": current[0], "key_id": key["id"]}
        ids |= {"book_id": book, "file_id": await self._add_file(headers)}
        ids["task_id"] = await self._ask_for_report(headers)
        self._ids[SESSIONS[role]] = self._ids[KEYS[role]] = {"user_id": 1, **ids}

    async def _add_book(self, headers: dict[str, str], number: int) -> int:
        book = {**BOOK, "isbn": f"978000000000{number}"}
        made = await self.client.post("/api/v1/books", json=book, headers=headers)
        return int(made.json()["id"])

    async def _ask_for_report(self, headers: dict[str, str]) -> int:
        made = await self.client.post("/api/v1/reports", headers=headers)
        return int(made.json()["task_id"])

    async def _add_file(self, headers: dict[str, str]) -> int:
        upload = BODIES["POST", "/api/v1/files/upload"]
        made = await self.client.post("/api/v1/files/upload", headers=headers, **upload)
        return int(made.json()["id"])

    async def granted(self, *scopes: str) -> dict[str, str]:
        """Return the header of an administrator's session with these scopes: it may do all."""
        wanted = " ".join(scope for scope in SCOPES if scope in scopes)
        if wanted not in self._granted:
            await self.set_back()
            answer = (await log_in(self.client, "the-admin", scope=wanted)).json()
            assert answer["scope"] == wanted
            self._granted[wanted] = bearer(answer["access_token"])
            await self._keep()
        return self._granted[wanted]

    async def set_back(self) -> None:
        """Undo what requests have done."""
        for path, content in self._contents.items():
            path.write_bytes(content)
        async with self._connection.transaction():
            await self._connection.execute("DELETE FROM users")
            await self._connection.execute("DELETE FROM login_counters")
            for table in self.TABLES:
                await self._connection.execute(f"INSERT INTO {table} TABLE kept_{table}")

    async def call(
        self,
        operation: Operation,
        caller: str,
        *,
        of: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Call an operation with the ids of somebody's things, by default of the caller's own."""
        method, template = operation
        path = template.format(**self.ids_of(of or caller))
        self.client.cookies.clear()
        given = self.headers[caller] if headers is None else headers
        return await self.client.request(method, path, headers=given, **self.body_of(operation))

    def ids_of(self, owner: str) -> dict[str, int]:
        """Return the ids of somebody's things, and of an account that is somebody else's."""
        return {"session_id": 1, **self._ids.get(owner, self._ids["victim"])}

    def body_of(self, operation: Operation) -> dict[str, Any]:
        """Return the arguments of a request that an operation can carry out."""
        if operation[1] in {"/api/v1/auth/refresh", "/api/v1/auth/logout"}:
            return {"json": {"refresh_token": self._refresh_token}}
        return BODIES.get(operation, {})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def stage_on(
    postgresql: PostgreSQL, redis_server: RedisServer, settings: Settings
) -> AsyncIterator[Stage]:
    """Start an instance on emptied servers, and make the accounts."""
    application = create_app(settings)
    await empty_stores(postgresql, redis_server)
    connection = await asyncpg.connect(
        host=str(postgresql.folder), user="postgres", database="harbour"
    )
    async with client_of(application) as client:
        stage = Stage(client, connection)
        await stage.prepare()
        yield stage
    await connection.close()
