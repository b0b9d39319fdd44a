"""Screenings: the sender's reference, and the key by which a repeated request is recognised."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns; screenings of before have neither."""
    for name in ("reference", "idempotency_key"):
        column: sa.Column[str] = sa.Column(name, sa.String(100), nullable=True)
        op.add_column("screening", column)
    op.create_index(
        "ix_screening_clinic_id_idempotency_key",
        "screening",
        ["clinic_id", "idempotency_key"],
        unique=True,
    )


def downgrade() -> None:
    """Remove the columns."""
    op.drop_index("ix_screening_clinic_id_idempotency_key", "screening")
    for name in ("reference", "idempotency_key"):
        op.drop_column("screening", name)
