"""Trial mode: a screening says whether its classifier was trained on demonstration images."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column, and mark what classifiers of the demonstration set have predicted."""
    column: sa.Column[bool] = sa.Column(
        "is_trial", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("screening", column)
    models = sa.table("model_version", sa.column("sha256"), sa.column("card", sa.JSON()))
    screenings = sa.table(
        "screening", sa.column("model_sha256"), sa.column("is_trial", sa.Boolean())
    )
    cards = op.get_bind().execute(sa.select(models.c.sha256, models.c.card)).all()
    for sha256, card in cards:
        splits = card.get("data", {}).get("by_source", {}).values()
        if any("demonstration" in sources for sources in splits):
            named = screenings.c.model_sha256 == sha256
            op.execute(screenings.update().where(named).values(is_trial=True))


def downgrade() -> None:
    """Forget which screenings were trials."""
    op.drop_column("screening", "is_trial")
