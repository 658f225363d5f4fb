"""The queue of jobs."""

from migrations import jobs_schema

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

phase = "expand"


def upgrade() -> None:
    jobs_schema.install("03.04.00_50_post_add_retry_failed_job_procedure.sql")


def downgrade() -> None:
    jobs_schema.remove()
