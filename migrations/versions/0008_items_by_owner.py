"""The items of one owner in their order, which a report reads page by page."""

from alembic import op

from migrations.indexes import create_index_concurrently

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

phase = "expand"


def upgrade() -> None:
    create_index_concurrently("ix_items_owner_id_id", "items", ["owner_id", "id"])


def downgrade() -> None:
    op.drop_index("ix_items_owner_id_id", "items")
