"""The library of books."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

phase = "expand"

IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# SQLite has no exact decimals, so it counts hundredths.
MONEY = sa.Numeric(12, 2).with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "books",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("owner_id", IDENTIFIER, nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("author", sa.String(200), nullable=False),
        sa.Column("isbn", sa.String(13), nullable=False),
        sa.Column("price", MONEY, nullable=False),
        sa.Column("description", sa.String(1000), nullable=False, server_default=""),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("id", name="pk_books"),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name="fk_books_owner_id_users", ondelete="CASCADE"
        ),
        sa.CheckConstraint("price > 0", name=op.f("ck_books_price_positive")),
    )
    op.create_index("ix_books_owner_id", "books", ["owner_id"])
    op.create_index("uq_books_isbn", "books", ["isbn"], unique=True)
    if op.get_context().dialect.name == "postgresql":
        op.create_index(
            "ix_books_author_search",
            "books",
            [sa.text("lower(author) gin_trgm_ops")],
            postgresql_using="gin",
        )


def downgrade() -> None:
    op.drop_table("books")
