"""Logging in over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.security import OAuth2PasswordRequestForm

from app.auth import service
from app.auth.schemas import TokenView
from app.dependencies import WorkerResources
from app.rate_limits import limited

router = APIRouter(prefix="/auth", tags=["auth"])


@router.post("/token")
@limited("login")
async def create_token(
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
    resources: WorkerResources,
    response: Response,
) -> TokenView:
    """Give an access token for a name and a password."""
    login = service.Login(form.username, form.password, form.scopes)
    grant = await service.log_in(resources.database, resources.passwords, resources.tokens, login)
    # RFC 6749, section 5.1: no cache may keep a token.
    response.headers["Cache-Control"] = "no-store"
    return TokenView(
        access_token=grant.access_token, expires_in=grant.lifetime, scope=" ".join(grant.scopes)
    )
