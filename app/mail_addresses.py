"""Addresses that mails go to and come from."""

import re
import unicodedata
from email.headerregistry import Address

import idna

from app.errors import InvalidInputError


class AddressError(InvalidInputError):
    """No mail can be sent to what was given as an address."""

    def __init__(self, message: str) -> None:
        super().__init__("to", message)


def parse_address(value: str, name: str = "") -> Address:
    """Return an address whose domain is written as DNS knows it.

    The domain is encoded by IDNA 2008 (RFC 5891). Python's own codec knows the rules of 2003, by
    which `straße.de` is `strasse.de`, somebody else's domain.

    Args:
        value: The address alone, `name@example.com`.
        name: The name that is shown with it.

    Raises:
        AddressError: when it is none; the message does not repeat it.
    """
    if not value.isprintable() or not name.isprintable():
        raise AddressError("An address must not have line breaks or other control characters.")
    local, _, domain = value.rpartition("@")
    if not local or not domain:
        raise AddressError("An address must have a part before and one after its @.")
    if any(character.isspace() or character in '<>,;:()"@\\' for character in local + domain):
        raise AddressError("An address must be one, without a name, quotes or spaces.")
    if not domain.isascii():
        plain = unicodedata.normalize("NFC", domain).lower()
        try:
            domain = idna.encode(plain, uts46=False).decode("ascii")
        except idna.IDNAError:
            raise AddressError("The domain of the address is no name of the DNS.") from None
    return Address(display_name=name, username=local, domain=domain)


def parse_sender(value: str) -> Address:
    """Return the sender of the settings, `name@example.com` or `Name <name@example.com>`.

    The name is what stands before the bracket, with commas and other signs, in quotes or not.

    Raises:
        AddressError: when it is no address.
    """
    name, bracket, address = value.strip().rpartition("<")
    if not bracket:
        return parse_address(address)
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return parse_address(address.removesuffix(">").strip(), name)
