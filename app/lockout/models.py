"""The table of failed guesses."""

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, UtcDateTime


class LoginCounter(Base):
    """The failures at one secret: of a known client, or of everybody else together."""

    __tablename__ = "login_counters"

    # A hash, not a name: people type their password into the field of the name.
    subject: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    client: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int] = mapped_column(server_default="0")
    last_failed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    locked_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    known_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
