"""What goes in and out over HTTP."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.users import Password

RefreshTokenText = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class TokenView(BaseModel):
    """An access token and the token that continues its session (RFC 6749, section 5.1)."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int
    scope: str


class CookieView(BaseModel):
    """What a page may know of a session that is kept in cookies."""

    csrf_token: str = Field(description="To be sent as X-CSRF-Token with each write.")
    expires_in: int
    scope: str


class RefreshInput(BaseModel):
    """A refresh token."""

    refresh_token: RefreshTokenText


class PasswordChange(BaseModel):
    """The password as it is and as it shall be."""

    current_password: Password
    new_password: Password


class SessionView(BaseModel):
    """A session that goes on."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    kind: Literal["token", "cookie"]
    client_address: str
    user_agent: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    current: bool = Field(default=False, description="Whether it is the one that asks.")


class SessionList(BaseModel):
    """The sessions of an account."""

    sessions: list[SessionView]
