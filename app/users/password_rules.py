"""Which passwords are too weak."""

import string

from app.errors import InvalidInputError

MINIMUM_LENGTH = 8
MAXIMUM_LENGTH = 128

# The head of the lists of passwords seen in breaches that are long enough to be chosen here.
COMMON = frozenset(
    """
    password password1 password12 password123 password1234 passw0rd p@ssw0rd p@ssword p@ssw0rd1
    pa$$word pa$$w0rd password! password1! 12345678 123456789 1234567890 12341234 87654321 11111111
    00000000 88888888 123123123 123456abc abc12345 abcd1234 a1b2c3d4 aa123456 a12345678 1q2w3e4r
    1q2w3e4r5t 1qaz2wsx 1qaz@wsx !qaz2wsx q1w2e3r4 qwertyui qwertyuiop qwerty12 qwerty123 qwerty1!
    asdfghjk asdfghjkl asdf1234 zxcvbnm1 iloveyou iloveyou1 sunshine sunshine1 princess princess1
    football football1 baseball baseball1 superman superman1 starwars whatever trustno1 trustno1!
    welcome1 welcome1! welcome123 letmein1 letmein1! letmein123 admin123 admin123! admin1234
    administrator changeme changeme1 changeme! changeme1! changeme123 computer internet michelle
    jennifer liverpool charlie1 dragon123 monkey123 master123 summer2024! winter2024! spring2024!
    """.split()  # noqa: SIM905 - ninety quotation marks would hide the words
)


class WeakPasswordError(InvalidInputError):
    """The password is too easy to guess."""

    code = "weak_password"

    def __init__(self, message: str) -> None:
        super().__init__("password", message)


def check_password(password: str, username: str, email: str, *, require_classes: bool) -> None:
    """Refuse a password that is too short, too plain, common, or made of the user's own name.

    Raises:
        WeakPasswordError: with the reason.
    """
    if not MINIMUM_LENGTH <= len(password) <= MAXIMUM_LENGTH:
        raise WeakPasswordError(f"A password has {MINIMUM_LENGTH} to {MAXIMUM_LENGTH} characters.")
    if require_classes and not _has_all_classes(password):
        raise WeakPasswordError(
            "A password needs an upper-case letter, a lower-case letter, a digit and a symbol."
        )
    folded = password.casefold()
    if folded in COMMON:
        raise WeakPasswordError("This password is one of those that are tried first.")
    for name in (username, email.partition("@")[0]):
        if name.casefold() in folded and len(name) >= len(password) / 3:
            raise WeakPasswordError("A password must not be made of your own name.")


def _has_all_classes(password: str) -> bool:
    return (
        any(character.isupper() for character in password)
        and any(character.islower() for character in password)
        and any(character.isdigit() for character in password)
        and any(
            character in string.punctuation or not character.isalnum() for character in password
        )
    )
