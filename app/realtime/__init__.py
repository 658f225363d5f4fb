"""Live messages: tickets, WebSockets, and the one room that all of them are in."""

from app.realtime.bus import EndingsTeller
from app.realtime.service import Live

__all__ = ["EndingsTeller", "Live"]
