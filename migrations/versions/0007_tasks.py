"""What callers have asked for and workers do, and what is kept of jobs that failed."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

phase = "expand"

IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def moment(name: str, *, made: bool = False) -> sa.Column[datetime]:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        nullable=not made,
        server_default=sa.func.now() if made else None,
    )


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("user_id", IDENTIFIER, nullable=False),
        sa.Column("kind", sa.String(50), nullable=False),
        sa.Column("status", sa.String(10), nullable=False, server_default="queued"),
        sa.Column("job_id", sa.BigInteger()),
        sa.Column("run", sa.String(32)),
        sa.Column("file_id", IDENTIFIER),
        sa.Column("error", sa.String(50)),
        moment("created_at", made=True),
        moment("started_at"),
        moment("ended_at"),
        moment("expires_at"),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_tasks_user_id_users", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["file_id"], ["files.id"], name="fk_tasks_file_id_files", ondelete="SET NULL"
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed')",
            name=op.f("ck_tasks_status_known"),
        ),
    )
    op.create_index("ix_tasks_user_id_status", "tasks", ["user_id", "status"])
    op.create_index("ix_tasks_file_id", "tasks", ["file_id"])
    op.create_index("ix_tasks_expires_at", "tasks", ["expires_at"])
    op.create_table(
        "job_failures",
        sa.Column("job_id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("error", sa.String(200), nullable=False),
        moment("at", made=True),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_failures"),
    )
    op.create_table(
        "job_ticks",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("tick", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_job_ticks"),
    )


def downgrade() -> None:
    for table in ("job_ticks", "job_failures", "tasks"):
        op.drop_table(table)
