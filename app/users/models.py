"""The table of accounts."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, String, func, true
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Identifier, UtcDateTime

USERNAME_INDEX = "uq_users_username"
EMAIL_INDEX = "uq_users_email"


class User(Base):
    """One account."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    username: Mapped[str] = mapped_column(String(50))
    email: Mapped[str] = mapped_column(String(320))
    full_name: Mapped[str] = mapped_column(String(200), server_default="")
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(20), server_default="user")
    is_active: Mapped[bool] = mapped_column(server_default=true())
    email_verified_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        UtcDateTime, server_default=func.now(), onupdate=func.now()
    )

    __table_args__ = (
        CheckConstraint("role IN ('user', 'moderator', 'admin', 'super_admin')", name="role"),
        # "Ann" and "ann" are one name, and one mailbox, to people.
        Index(USERNAME_INDEX, func.lower(username), unique=True),
        Index(EMAIL_INDEX, func.lower(email), unique=True),
    )
