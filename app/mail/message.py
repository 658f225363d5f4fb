"""A mail as it is written, and as it is sent."""

from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime, make_msgid


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
