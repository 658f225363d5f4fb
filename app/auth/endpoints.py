"""Logging in, continuing a session and ending it over HTTP."""

from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.security import OAuth2PasswordRequestForm

from app import cookies
from app.access import anyone, session_with
from app.accounts import Credential, Identity
from app.auth import login, service
from app.auth.grants import Grant
from app.auth.schemas import (
    CookieView,
    PasswordChange,
    RefreshInput,
    SessionList,
    SessionView,
    TokenView,
)
from app.dependencies import (
    PresentedCredential,
    RequestOrigin,
    Transaction,
    WorkerResources,
    brings_header,
    check_csrf,
    check_origin,
)
from app.errors import NotAuthenticatedError
from app.rate_limits import limited
from app.resources import Resources
from app.routing import API, FormRoute, Identifier, errors, router_of

router = router_of(f"{API}/auth", "auth")
# Both take the form of OAuth 2.0 (RFC 6749, section 4.3.2).
forms = router_of(f"{API}/auth", "auth", FormRoute)

LoginForm = Annotated[OAuth2PasswordRequestForm, Depends()]
_LOGIN: dict[str, Any] = {
    "dependencies": [anyone()],
    "responses": errors(401, 415),
}


def _tokens(grant: Grant) -> TokenView:
    return TokenView(
        access_token=grant.access_token,
        refresh_token=grant.refresh_token,
        expires_in=grant.lifetime,
        scope=" ".join(grant.scopes),
    )


def _cookies(resources: Resources, response: Response, grant: Grant) -> CookieView:
    csrf = resources.tokens.csrf_token(grant.session_id)
    cookies.set_session(
        response,
        access=grant.access_token,
        access_seconds=grant.lifetime,
        refresh=grant.refresh_token,
        refresh_seconds=grant.refresh_lifetime,
        csrf=csrf,
    )
    return CookieView(csrf_token=csrf, expires_in=grant.lifetime, scope=" ".join(grant.scopes))


@forms.post("/token", **_LOGIN)
@limited("login")
async def create_token(
    form: LoginForm, resources: WorkerResources, origin: RequestOrigin
) -> TokenView:
    """Begin a session and give its tokens for a name and a password."""
    given = login.Login(form.username, form.password, form.scopes, origin)
    return _tokens(await login.log_in(resources, given))


@forms.post("/login", **{**_LOGIN, "responses": errors(401, 403, 415)})
@limited("login")
async def log_in(
    request: Request,
    form: LoginForm,
    resources: WorkerResources,
    origin: RequestOrigin,
    response: Response,
) -> CookieView:
    """Begin a session that a browser keeps in cookies, in place of the one it had."""
    check_origin(request, resources)
    given = login.Login(
        form.username,
        form.password,
        form.scopes,
        origin,
        Credential.COOKIE,
        request.cookies.get(cookies.REFRESH),
    )
    return _cookies(resources, response, await login.log_in(resources, given))


@router.post(
    "/refresh",
    dependencies=[anyone()],
    responses=errors(401, 403),
    response_model=TokenView | CookieView,
)
async def refresh(
    request: Request,
    resources: WorkerResources,
    origin: RequestOrigin,
    response: Response,
    given: RefreshInput | None = None,
) -> TokenView | CookieView:
    """Continue a session by its refresh token, from the body or from the cookie."""
    if given is not None:
        return _tokens(await service.refresh(resources, given.refresh_token, origin))
    token = request.cookies.get(cookies.REFRESH)
    if not token:
        raise NotAuthenticatedError
    check_csrf(request, resources, await service.session_of(resources, token))
    return _cookies(resources, response, await service.refresh(resources, token, origin))


@router.post("/logout", status_code=204, dependencies=[anyone()], responses=errors(401, 403))
async def log_out(  # noqa: PLR0913, PLR0917 - what the framework hands in
    request: Request,
    presented: PresentedCredential,
    session: Transaction,
    resources: WorkerResources,
    origin: RequestOrigin,
    response: Response,
    given: RefreshInput | None = None,
) -> None:
    """End the session of the caller's tokens, or of its cookies, which are taken away."""
    token = given.refresh_token if given else None
    claims = presented.claims if presented else None
    if token and presented and presented.credential is Credential.COOKIE:
        # It is not asked for a CSRF token here, so it counts for nothing.
        claims = None
    # As everywhere: a header that is no good is not rescued by a cookie.
    by_cookie = not token and not brings_header(request)
    cookie = request.cookies.get(cookies.REFRESH) if by_cookie else None
    if by_cookie and (claims or cookie):
        known = claims.session_id if claims else await service.session_of(resources, cookie or "")
        check_csrf(request, resources, known)
    done = await service.log_out(session, origin, claims, token or cookie)
    if not done and not cookie:
        raise NotAuthenticatedError
    if cookie:
        cookies.clear_session(response)


@router.post("/change-password", status_code=204)
@limited("secret")
async def change_password(
    change: PasswordChange,
    identity: Annotated[Identity, session_with("profile:write")],
    resources: WorkerResources,
    origin: RequestOrigin,
) -> None:
    """Give the caller another password; every other session of the account ends."""
    await service.change_password(
        resources, identity, change.current_password, change.new_password, origin
    )


@router.get("/sessions")
async def list_sessions(
    identity: Annotated[Identity, session_with("profile:read")], resources: WorkerResources
) -> SessionList:
    """Return the caller's sessions, the one used last first."""
    found = await service.list_own(resources, identity)
    views = [SessionView.model_validate(one) for one in found]
    for view in views:
        view.current = view.id == identity.session_id
    return SessionList(sessions=views)


@router.delete("/sessions/{session_id}", status_code=204, responses=errors(404))
async def end_session(
    session_id: Identifier,
    identity: Annotated[Identity, session_with("profile:write")],
    session: Transaction,
    origin: RequestOrigin,
) -> None:
    """End one of the caller's sessions, which may be the one that asks."""
    await service.end_session(session, identity, session_id, origin)
