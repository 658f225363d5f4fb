"""Sends mails through the SMTP server of the settings."""

import contextlib
import ssl

import aiosmtplib

from app.errors import UnavailableError
from app.log import get_logger
from app.mail.message import Mail, build
from app.mail_addresses import AddressError, parse_address, parse_sender
from app.settings import Settings

PERMANENT = range(500, 600)


class MailError(UnavailableError):
    """A mail could not be sent now and may be sent later; the message names no address."""

    code = "mail_not_sent"


class Mailer:
    """The way out for mails. Making it connects to nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def send(self, to: str, mail: Mail) -> None:
        """Send a mail, or log that this cannot be done.

        An address that is none, and one that the server refuses for good, are logged and done
        with: no later attempt would change that.

        Args:
            to: The address alone, `name@example.com`.
            mail: What it says.

        Raises:
            MailError: when the server does not take it now.
        """
        log = get_logger()
        if not self._settings.mail_host:
            self._log_instead(mail)
            return
        try:
            code = await self._submit(to, mail)
        except AddressError as error:
            log.warning("mail.refused", message=f"A mail was not sent. {error.message}")
            return
        if code:
            log.warning(
                "mail.refused",
                message=f"The mail server has refused the recipient of a mail for good ({code}).",
                smtp_code=code,
            )
        else:
            log.info("mail.sent", message="The mail server has taken a mail.")

    def _log_instead(self, mail: Mail) -> None:
        if self._settings.environment == "development":
            get_logger().info("mail.shown", message=f"{mail.subject}\n\n{mail.text}")
        else:
            get_logger().warning(
                "mail.not_sent",
                message="A mail was not sent, because no mail server is known: "
                "set APP_MAIL_HOST and APP_MAIL_FROM.",
            )

    async def _submit(self, to: str, mail: Mail) -> int:
        """Hand a mail to the server; return the code of a refusal for good, or 0."""
        recipient = parse_address(to)
        sender = parse_sender(self._settings.mail_from)
        message = build(sender, recipient, mail)
        client = self._client()
        try:
            await client.connect()
            await client.send_message(
                message, sender=sender.addr_spec, recipients=[recipient.addr_spec]
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            code = error.recipients[0].code
            if code not in PERMANENT:
                raise MailError(_sentence(self._settings, f"answered {code}")) from error
            return code
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailError(_sentence(self._settings, _reason(error))) from error
        finally:
            # The mail is with the server or it is not, whatever becomes of the farewell.
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await client.quit()
            client.close()
        return 0

    def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        password = settings.mail_password
        return aiosmtplib.SMTP(
            hostname=settings.mail_host,
            port=settings.mail_port,
            username=settings.mail_username or None,
            password=password.get_secret_value() if settings.mail_username and password else None,
            timeout=settings.mail_timeout,
            use_tls=settings.mail_security == "tls",
            start_tls=settings.mail_security == "starttls",
            tls_context=ssl.create_default_context(),
        )


def _reason(error: Exception) -> str:
    """Say what happened, without the server's words: they may repeat an address."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"answered {error.code} ({type(error).__name__})"
    return f"could not be talked to ({type(error.__cause__ or error).__name__})"


def _sentence(settings: Settings, what: str) -> str:
    return f"The mail server {settings.mail_host}:{settings.mail_port} {what}."
