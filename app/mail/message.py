"""A mail as it is written, and as it is sent."""

import unicodedata
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime, make_msgid, parseaddr

import idna

from app.errors import InvalidInputError


class AddressError(InvalidInputError):
    """No mail can be sent to what was given as an address."""

    def __init__(self, message: str) -> None:
        super().__init__("to", message)


@dataclass(frozen=True)
class Mail:
    """What a mail says.

    Attributes:
        subject: One line.
        text: For those who read plain text.
        html: The same as a page.

    Raises:
        ValueError: when the subject has a line break or another control character.
    """

    subject: str
    text: str
    html: str

    def __post_init__(self) -> None:
        if not self.subject.isprintable():
            message = "The subject of a mail must be one line without control characters."
            raise ValueError(message)


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

    Raises:
        AddressError: when it is no address.
    """
    name, address = parseaddr(value)
    return parse_address(address, name)


def build(sender: Address, recipient: Address, mail: Mail) -> EmailMessage:
    """Return a mail with the headers of one that a program sends (RFC 5322, RFC 3834)."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(localtime())
    message["Message-ID"] = make_msgid(domain=sender.domain)
    # No out-of-office replies to it.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    return message
