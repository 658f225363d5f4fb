"""What endpoints ask for: the database, the caller, where the request came from.

The framework walks through the whole tree of dependencies for each request, also through those
that it has called before. So these take the request, and what they share is kept with it.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection

from app import cookies
from app.accounts import Credential, Identity, Origin
from app.errors import CsrfError, ForbiddenError, NotAuthenticatedError
from app.origins import origin_of
from app.permissions import SCOPES
from app.resources import Resources
from app.tokens import Claims

KEY_HEADER = "X-API-Key"
KEY_SCHEME = "key"
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
# A key of ours has less than 64 characters; a header may have more.
_LONGEST_KEY = 128
# So much of a header is repeated in a message: a name has no more letters.
_LONGEST_NAMED = 300
_COMPARED = ("origin", "host")

# For the documentation; what they name is read below.
SECURITY_SCHEMES = {
    "bearer": {
        "type": "oauth2",
        "flows": {"password": {"scopes": SCOPES, "tokenUrl": "/api/v1/auth/token"}},
    },
    KEY_SCHEME: {"type": "apiKey", "in": "header", "name": KEY_HEADER},
    "cookie": {"type": "apiKey", "in": "cookie", "name": cookies.ACCESS},
}


@dataclass(frozen=True, slots=True)
class Presented:
    """The credential that a request brings.

    Its claims are verified; whether it is still good only the database knows.
    """

    credential: Credential
    claims: Claims | None = None
    key: str | None = None


def _resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


async def get_resources(request: Request) -> Resources:
    """Return what the worker holds open."""
    return _resources(request)


WorkerResources = Annotated[Resources, Depends(get_resources)]


async def get_origin(request: Request) -> Origin:
    """Return where the request came from."""
    return origin_of(request)


RequestOrigin = Annotated[Origin, Depends(get_origin)]


def _present(request: Request) -> Presented | None:
    """Return the request's credential, or nothing when it brings none that could be good.

    The first of header, key and cookie counts, good or not: a request with a token that has expired
    must not be carried out with the rights of a cookie that happens to be there.
    """
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, token = get_authorization_scheme_param(authorization)
        credential = Credential.TOKEN if scheme.lower() == "bearer" else None
    elif (key := request.headers.get(KEY_HEADER)) is not None:
        return Presented(Credential.KEY, key=key) if len(key) <= _LONGEST_KEY else None
    else:
        token = request.cookies.get(cookies.ACCESS, "")
        credential = Credential.COOKIE
    if credential is None or not token:
        return None
    try:
        claims = _resources(request).tokens.verify(token)
    except NotAuthenticatedError:
        return None
    request.state.user_id = claims.user_id
    structlog.contextvars.bind_contextvars(user_id=claims.user_id)
    return Presented(credential, claims)


def brings_header(request: Request) -> bool:
    """Say whether a request brings a credential in a header, so that no cookie of it counts."""
    return "authorization" in request.headers or KEY_HEADER in request.headers


async def get_presented(request: Request) -> Presented | None:
    """Return the request's credential, which is looked at once."""
    state = request.scope["state"]
    if "presented" not in state:
        state["presented"] = _present(request)
    presented: Presented | None = state["presented"]
    return presented


PresentedCredential = Annotated[Presented | None, Depends(get_presented)]


async def check_rate_limit(request: Request) -> None:
    """Count the request, after it is known who asks and before anything costs much.

    Nobody asks here whether the session of a token goes on. Where users have a few tries only, the
    address counts: else the token of a session that has ended would use up those of its owner.
    """
    await get_presented(request)
    limits = _resources(request).rate_limits
    if limits.has_limit_of_users(request):
        request.state.user_id = None
    await limits.check(request)


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """Give the request's one transaction, committed before the answer is sent."""
    async with _resources(request).database.writing() as session:
        yield session


# With the scope "request" the commit would come after the answer, and could no longer fail it.
Transaction = Annotated[AsyncSession, Depends(get_session, scope="function")]


async def identify(request: Request) -> Identity:
    """Find out who asks, and keep it with the request.

    Raises:
        NotAuthenticatedError: without a credential that is good.
        CsrfError: when a page of somebody else may have made the browser send its cookie.
    """
    presented, resources = await get_presented(request), _resources(request)
    if presented is None:
        raise NotAuthenticatedError
    if presented.claims is not None:
        if presented.credential is Credential.COOKIE and request.method not in _READS:
            check_csrf(request, resources, presented.claims.session_id)
        identity = await resources.identities.by_claims(presented.claims, presented.credential)
    else:
        identity = await resources.identities.by_key(presented.key or "")
    if identity is None:
        raise NotAuthenticatedError
    request.state.user_id = identity.account.id
    structlog.contextvars.bind_contextvars(user_id=identity.account.id)
    request.scope["state"]["identity"] = identity
    return identity


async def identify_and_count(request: Request) -> Identity:
    """Find out who asks, and count the request for whom it turns out to be.

    The claims of a token say at once who is counted, unless the endpoint has a limit of its own:
    who holds the token of a session that has ended must not use up the few tries of its owner.
    A key says it only to a worker that has found it good before. Nobody is counted for what the
    service could not find out: that it cannot is no fault of the caller.

    Raises:
        ServiceError: as `identify` and the limits do.
    """
    limits = _resources(request).rate_limits
    presented = await get_presented(request)
    if presented is None or not (presented.key or limits.has_limit_of_users(request)):
        await limits.check(request)
        return await identify(request)
    if presented.key:
        request.state.user_id = limits.good_keys.user_of(presented.key)
    limits.refuse_exhausted(request)
    try:
        identity = await identify(request)
    except (NotAuthenticatedError, ForbiddenError):
        request.state.user_id = None
        if presented.key:
            limits.good_keys.forget(presented.key)
        await limits.check(request, guessed=bool(presented.key))
        raise
    if presented.key:
        limits.good_keys.note(presented.key, identity.account.id)
    await limits.check(request)
    return identity


async def get_identity(request: Request) -> Identity:
    """Return who asks, which the route has found out by `identify`."""
    identity: Identity = request.scope["state"]["identity"]
    return identity


CurrentIdentity = Annotated[Identity, Depends(get_identity)]


def check_csrf(request: Request, resources: Resources, session_id: int) -> None:
    """Refuse a request that carries a cookie, but not what only our own pages can know.

    Raises:
        CsrfError: when the origin is foreign, or the token is missing or of another session.
    """
    check_origin(request, resources)
    given = request.headers.get(cookies.CSRF_HEADER, "")
    if not resources.tokens.is_csrf_token(given, session_id):
        raise CsrfError


def check_origin(request: Request, resources: Resources) -> None:
    """Refuse a browser's request that a foreign page has made; others send no Origin.

    Raises:
        CsrfError: when the origin is neither ours nor listed.
    """
    if is_foreign(request, resources):
        # The host too: an origin has a port, unless it is the usual one, and Nginx passes on none.
        origin, host = (request.headers.get(name, "")[:_LONGEST_NAMED] for name in _COMPARED)
        message = f'The Origin "{origin}" is neither that of "{host}" nor one of APP_CORS_ORIGINS.'
        raise CsrfError(message)


def is_foreign(
    connection: HTTPConnection, resources: Resources, further: Sequence[str] = ()
) -> bool:
    """Say whether a browser names an origin that is neither ours nor listed, here or by settings.

    Who sends no Origin is no browser.
    """
    origin = connection.headers.get("origin")
    settings = resources.settings
    if origin is None or origin in settings.cors_origins or origin in further:
        return False
    schemes = ["https"]
    if settings.environment == "development":
        schemes.append("http")
    host = connection.headers.get("host", "").lower()
    return origin.lower() not in {f"{scheme}://{host}" for scheme in schemes}
