"""Reviews: the finding in the reviewer's words, where an image shows none of the classes."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; reviews of before name a class."""
    op.add_column("review", sa.Column("finding", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Remove the column, and the reviews that name no class."""
    reviews = sa.table("review", sa.column("label", sa.String()))
    others = ("other-finding", "not-readable", "not-frontal")
    op.execute(reviews.delete().where(reviews.c.label.in_(others)))
    op.drop_column("review", "finding")
