"""What goes in and out over HTTP."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.moments import Moment
from app.text import NO_NUL

KeyName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=NO_NUL)
]
ScopeName = Literal[
    "profile:read",
    "profile:write",
    "items:read",
    "items:write",
    "items:delete",
    "users:read",
    "users:write",
    "admin",
]


class KeyInput(BaseModel):
    """A new key."""

    name: KeyName = Field(examples=["backup script"])
    scopes: list[ScopeName] | None = Field(
        None,
        min_length=1,
        max_length=8,
        description="What the key may do; without it, all that you may but administer.",
    )
    expires_at: Moment | None = Field(
        None, description="When the key ends; without it, when you revoke it."
    )


class KeyView(BaseModel):
    """A key, of which only the beginning can be seen."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class NewKeyView(KeyView):
    """A key that was just made."""

    api_key: str = Field(description="The key itself, which is shown this once.")


class KeyList(BaseModel):
    """The keys of an account."""

    api_keys: list[KeyView]


class DefaultKeyView(BaseModel):
    """The default key that was just made."""

    api_key: str
    message: str = "Keep this key in a safe place: it is shown this once."
