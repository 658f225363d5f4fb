"""Accounts. What other features may use of them is named here."""

from app.users.service import Credentials, find_credentials, replace_password_hash

__all__ = ["Credentials", "find_credentials", "replace_password_hash"]
