"""What text may be, for every schema."""

from typing import Annotated

import idna
from pydantic import AfterValidator, EmailStr, Field, StringConstraints

# PostgreSQL's text cannot hold the character NUL.
NO_NUL = r"^[^\x00]*$"
# Neither control characters nor what ends a line or a paragraph in Unicode.
ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"

Search = Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)]


def visible(value: str) -> str:
    """Refuse a text in which nothing can be seen, such as one of control characters alone."""
    if not any(character.isprintable() and not character.isspace() for character in value):
        message = "it must not be blank"
        raise ValueError(message)
    return value


def like_pattern(search: str) -> str:
    """Return the LIKE pattern, with the escape `/`, that finds a part of a text.

    Where case does not count, the database lowers both: it lowers Σ and İ otherwise than Python.
    """
    escaped = search.replace("/", "//").replace("%", "/%").replace("_", "/_")
    return f"%{escaped}%"


def _plain_address(value: str) -> str:
    """Return an address as mail servers have it: one spelling, all of it ASCII.

    The domain is encoded by IDNA 2008, which keeps ß apart from ss; the older encoding of Python
    itself would send the mail to somebody else's domain.
    """
    local, _, domain = value.rpartition("@")
    if not local.isascii():
        message = "the part before the @ may have ASCII characters only"
        raise ValueError(message)
    try:
        encoded = domain if domain.isascii() else idna.encode(domain, uts46=False).decode()
    except idna.IDNAError as error:
        message = "the domain is not a name of the Internet"
        raise ValueError(message) from error
    return f"{local}@{encoded}".lower()


Address = Annotated[EmailStr, AfterValidator(_plain_address), Field(max_length=320)]
