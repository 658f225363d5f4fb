"""What goes in and out over HTTP."""

from typing import Annotated

from pydantic import BaseModel, StringConstraints

from app.text import Address
from app.users import Password

MailTokenText = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class TokenInput(BaseModel):
    """The token of a mail."""

    token: MailTokenText


class ResetRequest(BaseModel):
    """Whose password is to be reset."""

    email: Address


class ResetInput(BaseModel):
    """The token of a mail and the new password."""

    token: MailTokenText
    new_password: Password
