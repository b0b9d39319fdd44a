"""Clinics, API keys, model versions, screenings, audit events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "clinic",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_clinic"),
        sa.UniqueConstraint("name", name="uq_clinic_name"),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("clinic_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["clinic_id"], ["clinic.id"], name="fk_api_key_clinic_id_clinic"),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("key_hash", name="uq_api_key_key_hash"),
    )
    op.create_index("ix_api_key_clinic_id", "api_key", ["clinic_id"])
    op.create_table(
        "model_version",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("version", sa.String(100), nullable=False),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.Column("registered_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_model_version"),
    )
    op.create_index("ix_model_version_version", "model_version", ["version"])
    op.create_table(
        "screening",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("visitor_id", sa.String(64), nullable=True),
        sa.Column("clinic_id", sa.Uuid(), nullable=True),
        sa.Column("film_sha256", sa.String(64), nullable=False),
        sa.Column("film_type", sa.String(50), nullable=False),
        sa.Column("film_format", sa.String(20), nullable=False),
        sa.Column("film_width", sa.Integer(), nullable=False),
        sa.Column("film_height", sa.Integer(), nullable=False),
        sa.Column("film_bits", sa.Integer(), nullable=False),
        sa.Column("film_metadata", sa.JSON(), nullable=False),
        sa.Column("model_sha256", sa.String(64), nullable=False),
        sa.Column("model_version", sa.String(100), nullable=False),
        sa.Column("label", sa.String(50), nullable=False),
        sa.Column("decision", sa.String(50), nullable=False),
        sa.Column("reason", sa.String(50), nullable=True),
        sa.Column("probabilities", sa.JSON(), nullable=False),
        sa.Column("novelty", sa.Double(), nullable=False),
        sa.Column("activation_map", sa.JSON(), nullable=False),
        sa.Column("timings", sa.JSON(), nullable=False),
        sa.Column("share_token", sa.String(64), nullable=True),
        sa.Column("shared_until", MOMENT, nullable=True),
        sa.CheckConstraint(
            "(visitor_id IS NULL) <> (clinic_id IS NULL)", name="ck_screening_one_owner"
        ),
        sa.ForeignKeyConstraint(["clinic_id"], ["clinic.id"], name="fk_screening_clinic_id_clinic"),
        sa.ForeignKeyConstraint(
            ["model_sha256"],
            ["model_version.sha256"],
            name="fk_screening_model_sha256_model_version",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_screening"),
    )
    for owner in ("visitor_id", "clinic_id"):
        columns = [owner, "created_at", "id"]
        op.create_index(f"ix_screening_{'_'.join(columns)}", "screening", columns)
    op.create_table(
        "audit_event",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("action", sa.String(50), nullable=False),
        sa.Column("subject", sa.String(100), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_event"),
    )
    op.create_index("ix_audit_event_at", "audit_event", ["at"])
    op.create_index("ix_audit_event_subject", "audit_event", ["subject"])


def downgrade() -> None:
    """Remove all tables."""
    for table in ("audit_event", "screening", "model_version", "api_key", "clinic"):
        op.drop_table(table)
