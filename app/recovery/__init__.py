"""What mails prove: that an address is read, and that an account may get another password."""

from app.recovery.service import TELL_PASSWORD_CHANGED, clean_up, withdraw_resets

__all__ = ["TELL_PASSWORD_CHANGED", "clean_up", "withdraw_resets"]
