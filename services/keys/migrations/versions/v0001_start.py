"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit BEGIN SELECT RAISE(ABORT, 'append-only'); END"
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        f"CREATE RULE audit_no_{verb.lower()} AS ON {verb} TO audit DO INSTEAD NOTHING" for verb in ("UPDATE", "DELETE")
    ],
}
"""An audit row stays as it was written, whoever has the connection."""


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("username", sa.String(64), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("origin", sa.String(64), nullable=True),
        sa.Column("quota_seconds", sa.Double, nullable=True),
        sa.Column("quota_jobs", sa.Integer, nullable=True),
        sa.Column("quota_streams", sa.Integer, nullable=True),
        sa.Column("quota_bytes", sa.BigInteger, nullable=True),
        sa.Column("unfinished", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_tenants_created", "tenants", ["created"])
    op.create_table(
        "keys",
        sa.Column("id", sa.String(8), primary_key=True),
        sa.Column("tenant", sa.String(16), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("pepper", sa.String(8), nullable=False),
        sa.Column("label", sa.String(64), nullable=True),
        sa.Column("scopes", sa.String(200), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=True),
        sa.Column("revoked", sa.Double, nullable=True),
        sa.Column("deprecated", sa.Double, nullable=True),
        sa.Column("last_used", sa.Double, nullable=True),
    )
    op.create_index("ix_keys_tenant", "keys", ["tenant"])
    op.create_index("ix_keys_digest", "keys", ["digest"], unique=True)
    op.create_table(
        "ledger",
        sa.Column("tenant", sa.String(16), sa.ForeignKey("tenants.id"), primary_key=True),
        sa.Column("job", sa.String(64), primary_key=True),
        sa.Column("key_id", sa.String(8), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("admitted", sa.Double, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("reserved_ms", sa.BigInteger, nullable=False),
        sa.Column("settled_ms", sa.BigInteger, nullable=True),
    )
    op.create_table(
        "days",
        sa.Column("tenant", sa.String(16), sa.ForeignKey("tenants.id"), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("reserved_ms", sa.BigInteger, nullable=False),
        sa.Column("settled_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "invites",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("pepper", sa.String(8), nullable=False),
        sa.Column("uses", sa.Integer, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(16), nullable=True),
        sa.Column("key_id", sa.String(8), nullable=True),
        sa.Column("detail", sa.String(400), nullable=False),
    )
    for statement in APPEND_ONLY.get(op.get_bind().dialect.name, []):
        op.execute(statement)
