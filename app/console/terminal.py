"""What the console reads from the terminal and writes to it."""

import getpass
import json
import sys
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from app.accounts import Account
from app.text import Address


class ConsoleError(Exception):
    """Why a command cannot be carried out, in one sentence."""


def say(text: str) -> None:
    """Tell the operator something."""
    sys.stdout.write(f"{text}\n")


def line_of(account: Account) -> str:
    """Return an account as one line for people."""
    state = "active" if account.is_active else "deactivated"
    verified = "verified" if account.email_verified else "unverified"
    return (
        f"{account.id:>6}  {account.role.value:<11}  {state:<11}  {account.username:<24}  "
        f"{account.email} ({verified})"
    )


def json_of(account: Account) -> str:
    """Return an account as one line for programs."""
    return json.dumps(
        {
            "id": account.id,
            "username": account.username,
            "email": account.email,
            "role": account.role.value,
            "is_active": account.is_active,
            "email_verified": account.email_verified,
            "created_at": account.created_at.isoformat(),
        }
    )


def refusal(error: ValidationError, field: str = "") -> ConsoleError:
    """Return the first of what is wrong with what was typed, without repeating it."""
    problem = error.errors(include_input=False, include_url=False)[0]
    return ConsoleError(f"{field or problem['loc'][0]}: {problem['msg'].rstrip('.')}.")


def checked_address(typed: str) -> str:
    """Return an address in the spelling in which an account has it.

    Raises:
        ConsoleError: when it is none.
    """
    try:
        return TypeAdapter[str](Address).validate_python(typed)
    except ValidationError as error:
        raise refusal(error, "address") from None


def read_password(source: str | None) -> str:
    """Return the password from a file, from standard input, or from whoever sits there.

    Raises:
        ConsoleError: when there is none.
    """
    if source == "-":
        try:
            return sys.stdin.buffer.readline().decode().rstrip("\n")
        except UnicodeDecodeError:
            raise ConsoleError("The password on standard input is not UTF-8.") from None
    if source is not None:
        try:
            return Path(source).read_text("utf-8").splitlines()[0]
        except (OSError, IndexError, UnicodeDecodeError) as error:
            raise ConsoleError(f"The password file {source} cannot be read: {error}") from None
    if not sys.stdin.isatty():
        raise ConsoleError("There is no terminal to ask for the password: use --password-file -")
    try:
        password, again = getpass.getpass("Password: "), getpass.getpass("Again: ")
    except (EOFError, KeyboardInterrupt):
        raise ConsoleError("No password was given: nothing was changed.") from None
    if again != password:
        raise ConsoleError("The two passwords differ: nothing was changed.")
    return password
