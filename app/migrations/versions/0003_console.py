"""The console: users, data versions, the model registry, the gallery, reviews, schedules."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

MOMENT = sa.DateTime(timezone=True)
DATA = "data_version.sha256"
MODEL = "model_version.sha256"


def upgrade() -> None:
    """Make the tables, and the columns of runs and model versions that refer to them."""
    _users()
    _schedules_and_data()
    _registry()
    _gallery()
    op.create_table(
        "review",
        sa.Column("id", sa.Uuid(), nullable=False),
        _reference("review", "screening_id", sa.Uuid(), "screening.id", ondelete="CASCADE"),
        _reference("review", "user_id", sa.Uuid(), "user.id", nullable=True),
        _reference("review", "clinic_id", sa.Uuid(), "clinic.id", nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("label", sa.String(50), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("patient_key", sa.String(64), nullable=True),
        sa.CheckConstraint("(user_id IS NULL) <> (clinic_id IS NULL)", "ck_review_one_reviewer"),
        sa.PrimaryKeyConstraint("id", name="pk_review"),
    )
    op.create_index("ix_review_screening_id", "review", ["screening_id"])


def _reference(
    table: str,
    name: str,
    kind: sa.types.TypeEngine[Any],
    target: str,
    *,
    nullable: bool = False,
    ondelete: str | None = None,
) -> sa.Column[Any]:
    key = sa.ForeignKey(
        target, name=f"fk_{table}_{name}_{target.partition('.')[0]}", ondelete=ondelete
    )
    return sa.Column(name, kind, key, nullable=nullable)


def _users() -> None:
    op.create_table(
        "user",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        _reference("user", "clinic_id", sa.Uuid(), "clinic.id", nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("disabled_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_user"),
        sa.UniqueConstraint("name", name="uq_user_name"),
    )
    op.create_table(
        "user_session",
        sa.Column("token_hash", sa.String(64), nullable=False),
        _reference("user_session", "user_id", sa.Uuid(), "user.id"),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_user_session"),
    )
    op.create_index("ix_user_session_user_id", "user_session", ["user_id"])


def _schedules_and_data() -> None:
    op.create_table(
        "schedule",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(50), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("queue", sa.String(20), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("at", sa.String(5), nullable=False),
        sa.Column("weekdays", sa.String(7), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("enabled_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("created_by", sa.String(100), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schedule"),
        sa.UniqueConstraint("name", name="uq_schedule_name"),
    )
    op.create_table(
        "data_version",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("folder", sa.String(200), nullable=False),
        sa.Column("films", sa.Integer(), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("created_by", sa.String(100), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        _reference("data_version", "parent_sha256", sa.String(64), DATA, nullable=True),
        sa.Column("quiz_allowed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_data_version"),
    )
    op.create_index("ix_data_version_name", "data_version", ["name"])
    _add("run", sa.Column("result", sa.JSON(), nullable=False, server_default="{}"))
    _add("run", _reference("run", "data_sha256", sa.String(64), DATA, nullable=True))
    _add("run", _reference("run", "schedule_id", sa.Uuid(), "schedule.id", nullable=True))
    _add("run", sa.Column("slot", sa.String(30), nullable=True))
    op.create_index("ix_run_schedule_id_slot", "run", ["schedule_id", "slot"], unique=True)


def _add(table: str, column: sa.Column[Any]) -> None:
    # SQLite adds a reference with its column or never, short of copying the table.
    op.add_column(table, column, inline_references=True)


def _registry() -> None:
    kind = sa.Column("kind", sa.String(20), nullable=False, server_default="classifier")
    of_run = _reference("model_version", "run_id", sa.Uuid(), "run.id", nullable=True)
    of_data = _reference("model_version", "data_sha256", sa.String(64), DATA, nullable=True)
    for column in (
        kind,
        sa.Column("folder", sa.String(200), nullable=True),
        of_run,
        of_data,
        sa.Column("parents", sa.JSON(), nullable=False, server_default="[]"),
        sa.Column("retired_at", MOMENT, nullable=True),
    ):
        _add("model_version", column)
    op.create_table(
        "comparison",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        _reference("comparison", "run_id", sa.Uuid(), "run.id", nullable=True),
        _reference("comparison", "candidate_sha256", sa.String(64), MODEL),
        _reference("comparison", "reference_sha256", sa.String(64), MODEL),
        _reference("comparison", "data_sha256", sa.String(64), DATA, nullable=True),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("faults", sa.JSON(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_comparison"),
    )
    op.create_index("ix_comparison_candidate_sha256", "comparison", ["candidate_sha256"])
    op.create_table(
        "activation",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("by", sa.String(100), nullable=False),
        _reference("activation", "model_sha256", sa.String(64), MODEL),
        sa.Column("override", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_activation"),
    )


def _gallery() -> None:
    op.create_table(
        "synthetic_film",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        _reference("synthetic_film", "model_sha256", sa.String(64), MODEL),
        _reference("synthetic_film", "data_sha256", sa.String(64), DATA),
        sa.Column("label", sa.String(50), nullable=False),
        sa.Column("seed", sa.String(20), nullable=False),
        sa.Column("image", sa.String(200), nullable=False),
        sa.Column("nearest_percentile", sa.Double(), nullable=True),
        sa.Column("certificate", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_synthetic_film"),
        sa.UniqueConstraint("data_sha256", "image", name="uq_synthetic_film_data_sha256_image"),
    )
    for columns in (["model_sha256", "label", "id"], ["label", "id"]):
        op.create_index(f"ix_synthetic_film_{'_'.join(columns)}", "synthetic_film", columns)
    op.create_table(
        "quiz_round",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("visitor_id", sa.String(64), nullable=False),
        _reference("quiz_round", "model_sha256", sa.String(64), MODEL),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("counts", sa.Boolean(), nullable=False),
        sa.Column("right", sa.Integer(), nullable=True),
        sa.Column("synthetic_taken_for_real", sa.Integer(), nullable=True),
        sa.Column("real_taken_for_real", sa.Integer(), nullable=True),
        sa.Column("films", sa.JSON(), nullable=False),
        sa.Column("guesses", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_quiz_round"),
    )
    op.create_index("ix_quiz_round_model_sha256", "quiz_round", ["model_sha256"])
    open_rounds = ["finished_at", "started_at"]
    op.create_index("ix_quiz_round_finished_at_started_at", "quiz_round", open_rounds)


def downgrade() -> None:
    """Remove the tables and the columns."""
    for table in ("review", "quiz_round", "synthetic_film", "activation", "comparison"):
        op.drop_table(table)
    op.drop_index("ix_run_schedule_id_slot", "run")
    # Column by column: SQLite could not copy a table to which rows of others refer.
    for column in ("kind", "folder", "run_id", "data_sha256", "parents", "retired_at"):
        op.drop_column("model_version", column)
    for column in ("result", "data_sha256", "schedule_id", "slot"):
        op.drop_column("run", column)
    for table in ("data_version", "schedule", "user_session", "user"):
        op.drop_table(table)
