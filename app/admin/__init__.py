"""What administrators do: accounts, roles, sessions, the audit trail."""

from app.admin.service import By, end_sessions, unlock

__all__ = ["By", "end_sessions", "unlock"]
