"""Callbacks: a default address for each key, and the names of the secrets that sign."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """A column and a table."""
    op.add_column("keys", sa.Column("callback_url", sa.String(2048), nullable=True))
    op.create_table(
        "webhook_secrets",
        sa.Column("key_id", sa.String(8), sa.ForeignKey("keys.id"), primary_key=True),
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("pepper", sa.String(8), nullable=False),
        sa.Column("made", sa.Double, nullable=False),
        sa.Column("until", sa.Double, nullable=True),
    )
