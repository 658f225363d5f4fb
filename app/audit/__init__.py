"""The audit trail: what happened to accounts, and who did it."""

from app.audit.repository import prune
from app.audit.service import Event, Found, Query, find, note, record

__all__ = ["Event", "Found", "Query", "find", "note", "prune", "record"]
