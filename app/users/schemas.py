"""What goes in and out over HTTP."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.text import ONE_LINE, Address

Username = Annotated[
    str,
    StringConstraints(min_length=3, max_length=50, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"),
]
FullName = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200, pattern=ONE_LINE)
]
# The rules of passwords are the service's; this bound keeps a huge one from being looked at.
Password = Annotated[str, Field(max_length=1024, examples=["Correct-horse-7"])]


class Registration(BaseModel):
    """A new account."""

    username: Username = Field(examples=["ann"])
    email: Address = Field(examples=["ann@example.com"])
    password: Password
    full_name: FullName = ""


class ProfileChange(BaseModel):
    """What of a profile is to change; the rest stays as it is."""

    full_name: FullName | None = None
    email: Address | None = None
    current_password: Password | None = Field(
        None, description="Needed for another address, unless the login was a few minutes ago."
    )


class UserView(BaseModel):
    """An account as its owner sees it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str
    email: str
    full_name: str
    role: str
    is_active: bool
    email_verified: bool
    created_at: datetime
