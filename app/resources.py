"""What one worker holds open for all its requests."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from app.accounts import Credential, Identity
from app.cache import Cache
from app.cached import CachedReads
from app.db import Database
from app.error_reports import ErrorReports
from app.file_stores import FileStore
from app.jobs.service import Jobs
from app.passwords import Passwords
from app.rate_limits import RateLimits
from app.refusals import Refusals
from app.settings import Settings
from app.tokens import Claims, Tokens
from app.transfers import Transfers


class FindsIdentities(Protocol):
    """Finds out who asks; `app.identity` does, which stands above what knows this module."""

    async def by_claims(self, claims: Claims, credential: Credential) -> Identity | None:
        """Return who an access token stands for."""

    async def by_key(self, key: str) -> Identity | None:
        """Return who an API key stands for."""

    async def going_on(self, session_ids: Iterable[int]) -> frozenset[int]:
        """Return those of the sessions that go on."""


@dataclass(frozen=True)
class Resources:
    """What one worker holds open; `app.main` fills it."""

    settings: Settings
    database: Database
    cache: Cache
    passwords: Passwords
    tokens: Tokens
    rate_limits: RateLimits
    refusals: Refusals
    jobs: Jobs
    identities: FindsIdentities
    cached: CachedReads
    error_reports: ErrorReports
    files: FileStore | None
    transfers: Transfers

    async def close(self) -> None:
        """Give everything back."""
        self.passwords.close()
        await self.rate_limits.close()
        await self.cached.close()
        await self.jobs.close()
        await self.cache.close()
        if self.files is not None:
            self.files.close()
        await self.database.close()
        await self.error_reports.close()
