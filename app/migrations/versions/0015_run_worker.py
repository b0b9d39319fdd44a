"""Runs: the machine that executed them, whose speed later estimates use."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the column; it is not known of runs of before."""
    op.add_column("run", sa.Column("worker", sa.String(200)))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("run", "worker")
