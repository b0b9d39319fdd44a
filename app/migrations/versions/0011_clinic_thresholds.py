"""Thresholds of clinics, alarms of the monitoring, notifications, and what a replay needs."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables, and the columns of screenings; those of before have neither value."""
    op.create_table(
        "clinic_thresholds",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        _reference("clinic_thresholds", "clinic_id", sa.Uuid(), "clinic.id"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("by", sa.String(100), nullable=False),
        _reference("clinic_thresholds", "model_sha256", sa.String(64), "model_version.sha256"),
        sa.Column("by_label", sa.JSON(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_clinic_thresholds"),
        sa.UniqueConstraint("clinic_id", "version", name="uq_clinic_thresholds_clinic_id_version"),
    )
    op.create_table(
        "monitoring_alarm",
        sa.Column("id", sa.Uuid(), nullable=False),
        _reference("monitoring_alarm", "clinic_id", sa.Uuid(), "clinic.id"),
        _reference("monitoring_alarm", "model_sha256", sa.String(64), "model_version.sha256"),
        sa.Column("test", sa.String(50), nullable=False),
        sa.Column("block", sa.Integer(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("acknowledged_at", MOMENT, nullable=True),
        sa.Column("acknowledged_by", sa.String(100), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_monitoring_alarm"),
        sa.UniqueConstraint("clinic_id", "model_sha256", "test", "block", name="one_each"),
    )
    op.create_table(
        "notification",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("event", sa.String(50), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", MOMENT, nullable=True),
        sa.Column("sent_at", MOMENT, nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notification"),
    )
    op.create_index("ix_notification_next_attempt_at", "notification", ["next_attempt_at"])
    thresholds = _reference(
        "screening", "clinic_thresholds_id", sa.Integer(), "clinic_thresholds.id", nullable=True
    )
    input_sha256: sa.Column[str] = sa.Column("input_sha256", sa.String(64), nullable=True)
    for column in (thresholds, input_sha256):
        op.add_column("screening", column, inline_references=True)


def _reference(
    table: str, name: str, kind: sa.types.TypeEngine[Any], target: str, *, nullable: bool = False
) -> sa.Column[Any]:
    key = sa.ForeignKey(target, name=f"fk_{table}_{name}_{target.partition('.')[0]}")
    return sa.Column(name, kind, key, nullable=nullable)


def downgrade() -> None:
    """Remove the tables and the columns."""
    for name in ("clinic_thresholds_id", "input_sha256"):
        op.drop_column("screening", name)
    for table in ("notification", "monitoring_alarm", "clinic_thresholds"):
        op.drop_table(table)
