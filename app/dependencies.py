"""What endpoints ask for: the database, the caller, the right to do something."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.accounts import Account
from app.cache import Cache
from app.db import Database
from app.errors import InsufficientScopeError, NotAuthenticatedError
from app.passwords import Passwords
from app.permissions import SCOPES
from app.rate_limits import RateLimits
from app.settings import Settings
from app.tokens import Claims, Tokens

FindAccount = Callable[[AsyncConnection, int], Awaitable[Account | None]]


@dataclass(frozen=True)
class Resources:
    """What one worker holds open for all its requests; `app.main` fills it."""

    settings: Settings
    database: Database
    cache: Cache
    passwords: Passwords
    tokens: Tokens
    rate_limits: RateLimits
    find_account: FindAccount

    async def close(self) -> None:
        """Give everything back."""
        self.passwords.close()
        self.rate_limits.close()
        await self.cache.close()
        await self.database.close()


# The scheme is for the documentation; the header is read below, once for all dependencies.
_bearer = OAuth2PasswordBearer("/api/v1/auth/token", scopes=SCOPES, auto_error=False)


async def get_resources(request: Request) -> Resources:
    """Return what the worker holds open."""
    resources: Resources = request.app.state.resources
    return resources


WorkerResources = Annotated[Resources, Depends(get_resources)]


async def get_claims(request: Request, resources: WorkerResources) -> Claims | None:
    """Return what the request's bearer token says, or nothing when there is no valid one."""
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    if scheme.lower() != "bearer":
        return None
    try:
        claims = resources.tokens.verify(token)
    except NotAuthenticatedError:
        return None
    request.state.user_id = claims.user_id
    structlog.contextvars.bind_contextvars(user_id=claims.user_id)
    return claims


OptionalClaims = Annotated[Claims | None, Depends(get_claims)]


async def check_rate_limit(request: Request, resources: WorkerResources, _: OptionalClaims) -> None:
    """Count the request, after it is known who asks and before anything costs much."""
    await resources.rate_limits.check(request)


async def get_session(resources: WorkerResources) -> AsyncIterator[AsyncSession]:
    """Give the request's one transaction, committed before the answer is sent."""
    async with resources.database.writing() as session:
        yield session


# With the scope "request" the commit would come after the answer, and could no longer fail it.
Transaction = Annotated[AsyncSession, Depends(get_session, scope="function")]


async def get_account(
    needed: SecurityScopes,
    resources: WorkerResources,
    claims: OptionalClaims,
    _: Annotated[str | None, Depends(_bearer)],
) -> Account:
    """Return the account of the caller, whose token carries the needed scopes.

    Raises:
        NotAuthenticatedError: without a valid token of an active account.
        InsufficientScopeError: when a scope is missing.
    """
    if claims is None:
        raise NotAuthenticatedError
    async with resources.database.reading() as connection:
        account = await resources.find_account(connection, claims.user_id)
    if account is None or not account.is_active:
        raise NotAuthenticatedError
    for scope in needed.scopes:
        if scope not in claims.scopes:
            raise InsufficientScopeError(scope)
    return account


ProfileReader = Annotated[Account, Security(get_account, scopes=["profile:read"])]
ItemsWriter = Annotated[Account, Security(get_account, scopes=["items:write"])]
Caller = Annotated[Account, Security(get_account)]
