"""Runs: archived ones, and those that were asked to finish early."""

import sqlalchemy as sa
from alembic import op

from app.core.database import UtcDateTime

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("run", sa.Column("archived_at", UtcDateTime()))
    op.add_column("run", sa.Column("finish_requested_at", UtcDateTime()))


def downgrade() -> None:
    """Remove the columns."""
    op.drop_column("run", "finish_requested_at")
    op.drop_column("run", "archived_at")
