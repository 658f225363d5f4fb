"""The lockout: counting failed guesses at a secret, and refusing more of them."""

from app.lockout.service import (
    STRANGERS,
    Gate,
    Rules,
    clean_up,
    enter,
    forgive,
    subject_of,
    succeed,
    unlock,
)

__all__ = [
    "STRANGERS",
    "Gate",
    "Rules",
    "clean_up",
    "enter",
    "forgive",
    "subject_of",
    "succeed",
    "unlock",
]
