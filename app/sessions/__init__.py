"""Sessions: families of refresh tokens, from a login to its end."""

from app.sessions.service import (
    Ended,
    Opened,
    Owner,
    Reason,
    Reused,
    Rotated,
    Session,
    clean_up,
    end,
    end_all,
    goes_on,
    list_sessions,
    of_token,
    open_session,
    rotate,
    when_ended,
)

__all__ = [
    "Ended",
    "Opened",
    "Owner",
    "Reason",
    "Reused",
    "Rotated",
    "Session",
    "clean_up",
    "end",
    "end_all",
    "goes_on",
    "list_sessions",
    "of_token",
    "open_session",
    "rotate",
    "when_ended",
]
