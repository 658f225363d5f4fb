"""What one worker holds open for all its requests."""

from dataclasses import dataclass
from typing import Protocol

from app.accounts import Credential, Identity
from app.cache import Cache
from app.db import Database
from app.jobs.service import Jobs
from app.passwords import Passwords
from app.rate_limits import RateLimits
from app.refusals import Refusals
from app.settings import Settings
from app.tokens import Claims, Tokens


class FindsIdentities(Protocol):
    """Finds out who asks; `app.identity` does, which stands above what knows this module."""

    async def by_claims(self, claims: Claims, credential: Credential) -> Identity | None:
        """Return who an access token stands for."""

    async def by_key(self, key: str) -> Identity | None:
        """Return who an API key stands for."""


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

    async def close(self) -> None:
        """Give everything back."""
        self.passwords.close()
        await self.rate_limits.close()
        await self.jobs.close()
        await self.cache.close()
        await self.database.close()
