"""The gallery: who sees an image. Images without a privacy check wait for an admin."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column; images that were never checked are not public any more."""
    column: sa.Column[str] = sa.Column(
        "visibility", sa.String(20), nullable=False, server_default="public"
    )
    op.add_column("synthetic_image", column)
    op.execute("UPDATE synthetic_image SET visibility = 'hidden' WHERE nearest_percentile IS NULL")


def downgrade() -> None:
    """Make every image public again, except those that were removed."""
    op.execute("DELETE FROM synthetic_image WHERE visibility = 'removed'")
    op.drop_column("synthetic_image", "visibility")
