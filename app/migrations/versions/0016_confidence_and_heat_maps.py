"""Screenings: the probability of the label, to sort by, and the heat maps' shares on the lungs."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
OWNERS = ("visitor_id", "clinic_id")


def upgrade() -> None:
    """Add the columns; the heat maps of before are not checked."""
    confidence: sa.Column[float] = sa.Column(
        "confidence", sa.Double(), nullable=False, server_default="0"
    )
    op.add_column("screening", confidence)
    op.add_column("screening", sa.Column("heatmap_shares", sa.JSON(), nullable=True))
    # In the database: there may be more rows than fit into memory.
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    values = (
        "SELECT max(value::text::float8) FROM json_each(probabilities)"
        " WHERE json_typeof(value) = 'number'"
        if is_postgresql
        else "SELECT max(value) FROM json_each(probabilities) WHERE type IN ('real', 'integer')"
    )
    op.execute(f"UPDATE screening SET confidence = coalesce(({values}), 0)")  # noqa: S608
    for owner in OWNERS:
        op.create_index(
            f"ix_screening_{owner}_confidence_id", "screening", [owner, "confidence", "id"]
        )


def downgrade() -> None:
    """Remove the columns."""
    for owner in OWNERS:
        op.drop_index(f"ix_screening_{owner}_confidence_id", "screening")
    for name in ("heatmap_shares", "confidence"):
        op.drop_column("screening", name)
