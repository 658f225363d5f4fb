"""Sessions, API keys, the tokens of mails, the lockout and the audit trail."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

phase = "expand"

IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# The serving role may add to the trail and read it, nothing else. Which role that is, the default
# privileges of the schema have just said.
APPEND_ONLY = """
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(role.rolname) END
        FROM pg_class AS class
        CROSS JOIN LATERAL aclexplode(class.relacl) AS acl
        LEFT JOIN pg_roles AS role ON role.oid = acl.grantee
        WHERE class.oid = 'audit_events'::regclass AND acl.grantee <> class.relowner
    LOOP
        EXECUTE 'REVOKE UPDATE, DELETE, TRUNCATE ON audit_events FROM ' || grantee;
    END LOOP;
END
$$
"""
# Runs with the rights of the owner, so what it takes away is bounded here: whoever took over the
# service could not remove the traces of the last three months by it.
PRUNE = """
CREATE FUNCTION prune_audit_events(days integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM public.audit_events
        WHERE at < now() - make_interval(days => greatest(days, 90))
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$
"""


def moment(name: str, *, required: bool = True, made: bool = False) -> sa.Column[datetime]:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        nullable=not required,
        server_default=sa.func.now() if made else None,
    )


def upgrade() -> None:
    op.add_column("users", moment("email_verified_at", required=False))
    _create_sessions()
    _create_credentials()
    op.create_table(
        "login_counters",
        sa.Column("subject", sa.LargeBinary(32), nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        moment("last_failed_at", required=False),
        moment("locked_until", required=False),
        moment("known_until", required=False),
        sa.PrimaryKeyConstraint("subject", "client", name="pk_login_counters"),
    )
    _create_audit_trail()


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("user_id", IDENTIFIER, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("scopes", sa.String(200), nullable=False),
        sa.Column("client_address", sa.String(64), nullable=False, server_default=""),
        sa.Column("user_agent", sa.String(200), nullable=False, server_default=""),
        moment("created_at", made=True),
        moment("last_used_at", made=True),
        moment("expires_at"),
        moment("ended_at", required=False),
        sa.Column("end_reason", sa.String(30)),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_sessions_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_table(
        "refresh_tokens",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("session_id", IDENTIFIER, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("nonce", sa.LargeBinary(16), nullable=False),
        moment("created_at", made=True),
        moment("expires_at"),
        moment("used_at", required=False),
        sa.PrimaryKeyConstraint("id", name="pk_refresh_tokens"),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            name="fk_refresh_tokens_session_id_sessions",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_refresh_tokens_session_id", "refresh_tokens", ["session_id"])
    op.create_index("ix_refresh_tokens_expires_at", "refresh_tokens", ["expires_at"])
    op.create_index("uq_refresh_tokens_token_hash", "refresh_tokens", ["token_hash"], unique=True)


def _create_credentials() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("user_id", IDENTIFIER, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("prefix", sa.String(20), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("scopes", sa.String(200), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False, server_default=sa.false()),
        moment("created_at", made=True),
        moment("expires_at", required=False),
        moment("last_used_at", required=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_api_keys_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_api_keys_user_id", "api_keys", ["user_id"])
    op.create_index("uq_api_keys_key_hash", "api_keys", ["key_hash"], unique=True)
    op.create_table(
        "mail_tokens",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("user_id", IDENTIFIER, nullable=False),
        sa.Column("purpose", sa.String(20), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        moment("created_at", made=True),
        moment("expires_at"),
        sa.PrimaryKeyConstraint("id", name="pk_mail_tokens"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_mail_tokens_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_mail_tokens_user_id", "mail_tokens", ["user_id"])
    op.create_index("ix_mail_tokens_expires_at", "mail_tokens", ["expires_at"])
    op.create_index("uq_mail_tokens_token_hash", "mail_tokens", ["token_hash"], unique=True)


def _create_audit_trail() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", IDENTIFIER, nullable=False),
        moment("at", made=True),
        sa.Column("event", sa.String(50), nullable=False),
        sa.Column("user_id", sa.BigInteger()),
        sa.Column("actor_id", sa.BigInteger()),
        sa.Column("client_address", sa.String(64)),
        sa.Column("request_id", sa.String(128)),
        sa.Column(
            "details",
            sa.JSON().with_variant(JSONB(), "postgresql"),
            nullable=False,
            server_default="{}",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events"),
    )
    op.create_index("ix_audit_events_user_id_id", "audit_events", ["user_id", "id"])
    op.create_index("ix_audit_events_event_id", "audit_events", ["event", "id"])
    op.create_index("ix_audit_events_at", "audit_events", ["at"])
    if op.get_context().dialect.name == "postgresql":
        op.execute(PRUNE)
        op.execute(APPEND_ONLY)


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION prune_audit_events(integer)")
    for table in (
        "audit_events",
        "login_counters",
        "mail_tokens",
        "api_keys",
        "refresh_tokens",
        "sessions",
    ):
        op.drop_table(table)
    with op.batch_alter_table("users") as batch:
        batch.drop_column("email_verified_at")
