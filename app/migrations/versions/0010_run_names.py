"""Runs: a name, tags and notes."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

TEXTS = {"name": sa.String(100), "tags": sa.String(300), "notes": sa.Text()}


def upgrade() -> None:
    """Add the columns; runs of before have none of these."""
    for name, kind in TEXTS.items():
        column: sa.Column[str] = sa.Column(name, kind, nullable=False, server_default="")
        op.add_column("run", column)


def downgrade() -> None:
    """Remove the columns."""
    for name in TEXTS:
        op.drop_column("run", name)
