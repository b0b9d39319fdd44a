"""Sessions that end when they are not used."""

import sqlalchemy as sa
from alembic import op

from app.core.database import UtcDateTime

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the column; sessions of before have a limit from their next request on."""
    op.add_column("user_session", sa.Column("idle_until", UtcDateTime()))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("user_session", "idle_until")
