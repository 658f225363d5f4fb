"""The files of accounts."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

phase = "expand"

IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("owner_id", IDENTIFIER, nullable=False),
        sa.Column("stored_as", sa.String(32), nullable=False),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("content_type", sa.String(100), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name="fk_files_owner_id_users", ondelete="CASCADE"
        ),
        sa.CheckConstraint("size >= 0", name=op.f("ck_files_size_not_negative")),
    )
    op.create_index("ix_files_owner_id", "files", ["owner_id"])
    op.create_index("uq_files_stored_as", "files", ["stored_as"], unique=True)


def downgrade() -> None:
    op.drop_table("files")
