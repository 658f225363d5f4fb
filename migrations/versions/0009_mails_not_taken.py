"""Which mails the mail server did not take, and pruning the audit trail by and by."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

phase = "expand"

# As the function of one argument, which releases before this one call: the last 90 days stay.
PRUNE_SOME = """
CREATE FUNCTION prune_audit_events(days integer, most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH chosen AS MATERIALIZED (
        SELECT id FROM public.audit_events
        WHERE at < now() - make_interval(days => greatest(days, 90))
        ORDER BY at LIMIT most
    ), gone AS (
        DELETE FROM public.audit_events WHERE id IN (SELECT id FROM chosen) RETURNING 1
    )
    SELECT count(*) FROM gone
$$
"""


def upgrade() -> None:
    op.add_column("mail_tokens", sa.Column("failed_at", sa.DateTime(timezone=True)))
    if op.get_context().dialect.name == "postgresql":
        op.execute(PRUNE_SOME)


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION prune_audit_events(integer, integer)")
    with op.batch_alter_table("mail_tokens") as batch:
        batch.drop_column("failed_at")
