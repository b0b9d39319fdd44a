"""Screenings: the size of the stored images, which the quota of visitors adds up."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the column; images of before count nothing."""
    column: sa.Column[int] = sa.Column(
        "stored_bytes", sa.BigInteger(), nullable=False, server_default="0"
    )
    op.add_column("screening", column)


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("screening", "stored_bytes")
