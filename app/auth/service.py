"""Logging in."""

from dataclasses import dataclass, field

from app.db import Database
from app.errors import InvalidCredentialsError
from app.passwords import Passwords
from app.permissions import granted_scopes
from app.tokens import Tokens
from app.users import find_credentials, replace_password_hash


@dataclass(frozen=True, slots=True)
class Grant:
    """An access token, how many seconds it is valid, and what it allows."""

    access_token: str
    lifetime: int
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Login:
    """What somebody gives to get a token; no scopes mean all that are allowed."""

    username: str
    password: str = field(repr=False)
    scopes: list[str]


async def log_in(database: Database, passwords: Passwords, tokens: Tokens, login: Login) -> Grant:
    """Give a token for a name and a password.

    An unknown name, a wrong password and a deactivated account get the same answer after the same
    work, so that nobody can find out who has an account.

    Raises:
        InvalidCredentialsError: when the login fails, for whatever reason.
    """
    # No connection is held while the password waits for its turn to be hashed.
    async with database.reading() as connection:
        credentials = await find_credentials(connection, login.username)
    stored = credentials.password_hash if credentials else None
    right, newer_hash = await passwords.verify(login.password, stored)
    if credentials is None or not right or not credentials.account.is_active:
        raise InvalidCredentialsError
    account = credentials.account
    if newer_hash is not None:
        async with database.writing() as session:
            await replace_password_hash(session, account.id, newer_hash)
    scopes = granted_scopes(account.role, login.scopes)
    return Grant(tokens.create(account.id, scopes), tokens.lifetime, scopes)
