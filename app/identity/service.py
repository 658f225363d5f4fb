"""Finding out who asks."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from app.accounts import Credential, Identity
from app.db import Database
from app.errors import UnavailableError
from app.identity import repository
from app.opaque_tokens import hash_token
from app.permissions import still_allowed
from app.settings import Settings
from app.tokens import Claims
from app.users.repository import account_of

# A key's last use is told to the minute, so that a busy key does not write with every request.
_USE_NOTED_EVERY = timedelta(minutes=1)
_ASKED_AT_ONCE = 1000


class Identities:
    """Finds the account that a credential was given to, as long as both are good."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._unused = timedelta(seconds=settings.refresh_token_lifetime)

    async def by_claims(self, claims: Claims, credential: Credential) -> Identity | None:
        """Return who an access token stands for; nobody when its session has ended."""
        now = datetime.now(UTC)
        row = await repository.by_session(self._database, claims.user_id, claims.session_id, now)
        if row is None:
            return None
        account = account_of(row)
        scopes = still_allowed(account.role, claims.scopes)
        return Identity(account, scopes, credential, claims.session_id, row[-1])

    async def by_key(self, key: str) -> Identity | None:
        """Return who an API key stands for; nobody when it is unknown, revoked or expired."""
        now = datetime.now(UTC)
        row = await repository.by_key(self._database, hash_token(key), now)
        if row is None:
            return None
        account = account_of(row)
        key_id, scopes, used = row[-3:]
        if used is None or now - used > _USE_NOTED_EVERY:
            await self._note_use(key_id, now)
        allowed = still_allowed(account.role, frozenset(scopes.split()))
        return Identity(account, allowed, Credential.KEY, None, None)

    async def going_on(self, session_ids: Iterable[int]) -> frozenset[int]:
        """Return those of the sessions that go on, with accounts that are active.

        One whose newest refresh token has expired does not: nobody can continue it.
        """
        wanted, now = list(session_ids), datetime.now(UTC)
        found: set[int] = set()
        for start in range(0, len(wanted), _ASKED_AT_ONCE):
            some = wanted[start : start + _ASKED_AT_ONCE]
            found.update(await repository.going_on(self._database, some, now, now - self._unused))
        return frozenset(found)

    async def _note_use(self, key_id: int, now: datetime) -> None:
        try:
            async with self._database.writing() as session:
                await repository.note_use(session, key_id, now)
        except UnavailableError:
            # A read that can be answered is answered.
            return
