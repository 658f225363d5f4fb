"""Which passwords are too weak."""

import re
import string
from functools import cache
from typing import Protocol

from app.errors import InvalidInputError
from app.settings import Settings

MINIMUM_LENGTH = 8
MAXIMUM_LENGTH = 128
# Of a full name: letters and digits in a row, such as both parts of Anne-Marie.
_WORDS = re.compile(r"[^\W_]{3,}")

# Variations that the list of the library does not have, and that these rules would let pass.
_VARIATIONS = frozenset(
    """
    password1! password123! passw0rd! p@ssword p@ssword1 p@ssw0rd p@ssw0rd1 p@ssw0rd! pa$$word
    pa$$w0rd trustno1! welcome1! welcome123! letmein1! letmein123! admin123! admin1234! changeme!
    changeme1! changeme123! qwerty1! qwerty123! !qaz2wsx 1qaz@wsx summer2026! winter2026!
    spring2026! autumn2026!
    """.split()  # noqa: SIM905 - quotation marks would hide the words
)


@cache
def common_passwords() -> frozenset[str]:
    """Return the passwords that are tried first, in lower case.

    They are those of the lists of breaches in zxcvbn that are long enough to be chosen here: more
    than ten thousand. Reading them takes a quarter of a second, so it is done when a worker starts,
    in a thread.
    """
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # noqa: PLC0415

    listed = FREQUENCY_LISTS["passwords"]
    return _VARIATIONS.union(word for word in listed if len(word) >= MINIMUM_LENGTH)


class WeakPasswordError(InvalidInputError):
    """The password is too easy to guess."""

    code = "weak_password"


class Named(Protocol):
    """What an owner is called, before there is an account and after."""

    @property
    def username(self) -> str:
        """The name of the account."""

    @property
    def email(self) -> str:
        """The address."""

    @property
    def full_name(self) -> str:
        """The name among people, or nothing."""


def check_password(
    password: str, owner: Named, settings: Settings, *, field: str = "password"
) -> None:
    """Refuse a password that is too short, too plain, common, or made of a name.

    Args:
        password: the one to judge.
        owner: whose it is to be.
        settings: whether it needs all kinds of characters, and the names of the service.
        field: where it stands in the request.

    Raises:
        WeakPasswordError: with the reason.
    """
    if not MINIMUM_LENGTH <= len(password) <= MAXIMUM_LENGTH:
        raise WeakPasswordError(
            field, f"A password has {MINIMUM_LENGTH} to {MAXIMUM_LENGTH} characters."
        )
    if settings.password_require_classes and not _has_all_classes(password):
        raise WeakPasswordError(
            field,
            "A password needs an upper-case letter, a lower-case letter, a digit and a symbol.",
        )
    folded = password.casefold()
    if folded in common_passwords():
        raise WeakPasswordError(field, "This password is one of those that are tried first.")
    words = _WORDS.findall(owner.full_name)
    for name in (owner.username, owner.email.partition("@")[0], *words):
        if name.casefold() in folded and len(name) >= len(password) / 3:
            raise WeakPasswordError(field, "A password must not be made of your own name.")
    for word in settings.password_context_words:
        if word.casefold() in folded and len(word) >= len(password) / 3:
            raise WeakPasswordError(field, "A password must not be made of the service's name.")


def _has_all_classes(password: str) -> bool:
    return (
        any(character.isupper() for character in password)
        and any(character.islower() for character in password)
        and any(character.isdigit() for character in password)
        and any(
            character in string.punctuation or not character.isalnum() for character in password
        )
    )
