"""Mails: their texts, and the way to the server that takes them."""

from app.mail.message import Mail
from app.mail.rendering import render
from app.mail.service import Mailer, MailError

__all__ = ["Mail", "MailError", "Mailer", "render"]
