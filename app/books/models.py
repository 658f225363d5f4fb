"""The table of books."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Identifier, Money, UtcDateTime

ISBN_INDEX = "uq_books_isbn"


class Book(Base):
    """One book of somebody's."""

    __tablename__ = "books"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    title: Mapped[str] = mapped_column(String(200))
    author: Mapped[str] = mapped_column(String(200))
    isbn: Mapped[str] = mapped_column(String(13))
    price: Mapped[Decimal] = mapped_column(Money)
    description: Mapped[str] = mapped_column(String(1000), server_default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        UtcDateTime, server_default=func.now(), onupdate=func.now()
    )

    __table_args__ = (
        CheckConstraint("price > 0", name="price_positive"),
        Index(ISBN_INDEX, isbn, unique=True),
        # Finds any part of a name, as in the catalogue of items.
        Index(
            "ix_books_author_search",
            text("lower(author) gin_trgm_ops"),
            postgresql_using="gin",
        ).ddl_if(dialect="postgresql"),
    )
