"""Which key pays for a tenant's part of the bucket `drop`."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """A column."""
    op.add_column("tenants", sa.Column("drop_key", sa.String(8), nullable=True))
