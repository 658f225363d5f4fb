"""What the service itself keeps of jobs; the queue's own tables are procrastinate's."""

from datetime import datetime

from sqlalchemy import BigInteger, String, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Identifier, UtcDateTime


class JobFailure(Base):
    """Why a job has failed for good: the kind of error alone, for its text may name people."""

    __tablename__ = "job_failures"

    job_id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    error: Mapped[str] = mapped_column(String(200))
    at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())


class JobTick(Base):
    """The newest moment of a schedule for which its job was done, and the job that did it."""

    __tablename__ = "job_ticks"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    tick: Mapped[int] = mapped_column(BigInteger)
    job_id: Mapped[int] = mapped_column(BigInteger)
