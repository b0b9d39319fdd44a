"""Notifications: how each is sent, by webhook or by e-mail."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the column; those of before are sent by the webhook."""
    column: sa.Column[str] = sa.Column(
        "channel", sa.String(20), nullable=False, server_default="webhook"
    )
    op.add_column("notification", column)


def downgrade() -> None:
    """Remove the column, and what it told apart."""
    op.execute("DELETE FROM notification WHERE channel <> 'webhook'")
    op.drop_column("notification", "channel")
