"""What goes in and out over HTTP."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, EmailStr, Field, StringConstraints

Username = Annotated[
    str,
    StringConstraints(min_length=3, max_length=50, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"),
]
# PostgreSQL's text cannot hold the character NUL.
FullName = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00]*$")
]


class Registration(BaseModel):
    """A new account."""

    username: Username = Field(examples=["ann"])
    email: EmailStr = Field(max_length=320, examples=["ann@example.com"])
    # The rules of passwords are the service's; this bound keeps a huge one from being looked at.
    password: str = Field(max_length=1024, examples=["Correct-horse-7"])
    full_name: FullName = ""


class UserView(BaseModel):
    """An account as its owner sees it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str
    email: str
    full_name: str
    role: str
    is_active: bool
    created_at: datetime
