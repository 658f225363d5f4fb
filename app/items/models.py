"""The table of items."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Identifier, Money, UtcDateTime


class Item(Base):
    """One thing in the catalogue."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    title: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(String(1000), server_default="")
    price: Mapped[Decimal] = mapped_column(Money)
    quantity: Mapped[int] = mapped_column(Integer, server_default="0")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        UtcDateTime, server_default=func.now(), onupdate=func.now()
    )

    __table_args__ = (
        CheckConstraint("price > 0", name="price_positive"),
        CheckConstraint("quantity >= 0", name="quantity_not_negative"),
        # A report reads the items of one owner page by page.
        Index("ix_items_owner_id_id", "owner_id", "id"),
        # Finds any part of a title. The extension pg_trgm is trusted: a database's owner may
        # create it without being superuser.
        Index(
            "ix_items_title_search",
            text("lower(title) gin_trgm_ops"),
            postgresql_using="gin",
        ).ddl_if(dialect="postgresql"),
    )
