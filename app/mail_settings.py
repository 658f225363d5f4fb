"""The settings of mail; `app.settings` makes them part of all settings."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from app.mail_addresses import AddressError, parse_sender
from app.settings_source import EnvironmentSettings


def _one_line(value: str) -> str:
    """Refuse what would begin another header of a mail."""
    if not value.isprintable():
        message = "it must be one line without control characters"
        raise ValueError(message)
    return value


def _checked_base(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.netloc):
        message = "it must begin with https:// and the name of a host"
        raise ValueError(message)
    return value.rstrip("/")


def _check_sender(value: str) -> None:
    """Refuse a sender of whom no mail could be sent."""
    try:
        parse_sender(value)
    except AddressError as error:
        message = (
            "mail_from: set APP_MAIL_FROM to the address that mails come from, name@example.com "
            f"or Name <name@example.com>. {error.message}"
        )
        raise ValueError(message) from None


OneLine = Annotated[str, AfterValidator(_one_line)]
BaseUrl = Annotated[str, AfterValidator(_one_line), AfterValidator(_checked_base)]


class MailSettings(EnvironmentSettings):
    """How mails leave, and what they refer to."""

    mail_host: OneLine = Field(
        "",
        description="Host name of the SMTP server that takes mails; without it none is sent: "
        "production warns of each, development logs its text.",
    )
    mail_port: int = Field(587, ge=1, le=65535, description="Port of the SMTP server.")
    mail_security: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="`starttls` (usually port 587), `tls` from the first byte (usually port 465), "
        "both with a verified certificate, or `none`, without a login.",
    )
    mail_username: OneLine = Field(
        "", description="Name to log in with at the SMTP server; empty for no login."
    )
    mail_password: SecretStr | None = Field(
        None, description="Secret: password for the SMTP server."
    )
    mail_from: OneLine = Field(
        "", description="Sender of the mails, `name@example.com` or `Name <name@example.com>`."
    )
    mail_timeout: float = Field(
        15.0, gt=0, description="Seconds that an answer of the SMTP server may take."
    )
    public_url: BaseUrl = Field(
        "",
        description="Base URL of the web pages that mails link to, such as "
        "`https://www.example.com`; without it mails show tokens instead of links.",
    )

    @model_validator(mode="after")
    def _check_mail(self) -> Self:
        if self.mail_host:
            _check_sender(self.mail_from)
        if self.mail_username and self.mail_password is None:
            message = (
                "mail_password: a login needs it, put it into the file app_mail_password "
                "in $CREDENTIALS_DIRECTORY, or leave APP_MAIL_USERNAME empty"
            )
            raise ValueError(message)
        if self.mail_username and self.mail_security == "none":
            message = (
                "mail_username: it would send the password unencrypted, set APP_MAIL_SECURITY to "
                "starttls or tls"
            )
            raise ValueError(message)
        return self
