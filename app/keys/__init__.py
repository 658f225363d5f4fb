"""API keys: long-lived credentials for programs."""

from app.keys.service import clean_up, revoke_all

__all__ = ["clean_up", "revoke_all"]
