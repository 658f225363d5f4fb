"""Refused requests in the audit trail, each kind once a minute for each caller."""

import time
from collections import OrderedDict

from app.accounts import Origin
from app.audit import Event, note
from app.db import Database

_QUIET_SECONDS = 60.0
_REMEMBERED = 4096


class Refusals:
    """Writes down who is refused what.

    A flood of refused requests must not become a flood of rows, so the same refusal is written
    again only after a while.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._told: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    async def note(self, name: str, what: str, origin: Origin, user_id: int | None) -> None:
        """Write down a refusal.

        Args:
            name: of the event.
            what: the route that was asked for.
            origin: where the request came from.
            user_id: who asked, if that is known.
        """
        who = origin.network if user_id is None else str(user_id)
        if self._is_news((name, what, who)):
            event = Event(name, origin, user_id, user_id, {"route": what})
            await note(self._database, event)

    def _is_news(self, key: tuple[str, str, str]) -> bool:
        now = time.monotonic()
        if now - self._told.get(key, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return False
        self._told[key] = now
        self._told.move_to_end(key)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return True
