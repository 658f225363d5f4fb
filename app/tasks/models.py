"""The table of tasks."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Identifier, UtcDateTime


class Task(Base):
    """Something that an account has asked for, and what became of it."""

    __tablename__ = "tasks"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(10), server_default="queued")
    # The job that does it, in procrastinate's tables, which are in no model.
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    # The run that may end it, which is the newest one.
    run: Mapped[str | None] = mapped_column(String(32))
    # What came of it, unless its owner has deleted that.
    file_id: Mapped[int | None] = mapped_column(
        ForeignKey("files.id", ondelete="SET NULL"), index=True
    )
    # Why it has failed: the code of an error, as clients know them.
    error: Mapped[str | None] = mapped_column(String(50))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed')", name="status_known"
        ),
        Index("ix_tasks_user_id_status", "user_id", "status"),
        Index("ix_tasks_expires_at", "expires_at"),
    )
