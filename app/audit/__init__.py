"""The audit trail: what happened to accounts, and who did it."""

from app.audit.service import Event, Found, Query, find, note, prune, record

__all__ = ["Event", "Found", "Query", "find", "note", "prune", "record"]
