"""What goes in and out over HTTP."""

from typing import Literal

from pydantic import BaseModel


class TokenView(BaseModel):
    """An access token (RFC 6749, section 5.1)."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int
    scope: str
