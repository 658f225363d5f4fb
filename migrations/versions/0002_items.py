"""The catalogue of items."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

phase = "expand"

IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# SQLite has no exact decimals, so it counts hundredths.
MONEY = sa.Numeric(12, 2).with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "items",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("owner_id", IDENTIFIER, nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("description", sa.String(1000), nullable=False, server_default=""),
        sa.Column("price", MONEY, nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False, server_default="0"),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("id", name="pk_items"),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name="fk_items_owner_id_users", ondelete="CASCADE"
        ),
        sa.CheckConstraint("price > 0", name=op.f("ck_items_price_positive")),
        sa.CheckConstraint("quantity >= 0", name=op.f("ck_items_quantity_not_negative")),
    )
    op.create_index("ix_items_owner_id", "items", ["owner_id"])
    if op.get_context().dialect.name == "postgresql":
        # A trusted extension since PostgreSQL 13: the owner of the database may create it.
        op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        op.create_index(
            "ix_items_title_search",
            "items",
            [sa.text("lower(title) gin_trgm_ops")],
            postgresql_using="gin",
        )


def downgrade() -> None:
    op.drop_table("items")
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP EXTENSION IF EXISTS pg_trgm")
