"""Plain words: columns, tables and stored JSON use the field's own terms.

Films become images, figures metrics, certificates privacy checks, the novelty of an image its
out-of-distribution score. No row is lost, on the way up or down.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

RENAMED_COLUMNS = {
    "screening": {
        "film_sha256": "image_sha256",
        "film_type": "image_type",
        "film_format": "image_format",
        "film_width": "image_width",
        "film_height": "image_height",
        "film_bits": "image_bits",
        "film_metadata": "image_metadata",
        "novelty": "ood_score",
    },
    "data_version": {"films": "images"},
    "model_version": {"retired_at": "archived_at"},
    "comparison": {"figures": "metrics"},
    "quiz_round": {"films": "images"},
    "run": {"kind": "run_type"},
    "schedule": {"kind": "run_type"},
}
KEYS = {
    "films": "images",
    "films_seen": "images_seen",
    "films_sha256": "images_sha256",
    "films_per_second": "images_per_second",
    "held_out_films": "held_out_images",
    "real_films": "real_images",
    "training_films": "training_images",
    "ema_films": "ema_images",
    "generator_rate": "generator_learning_rate",
    "critic_rate": "critic_learning_rate",
    "tick_steps": "evaluation_interval",
    "least_diversity": "min_diversity",
    "novelty": "ood_score",
    "unfamiliar": "out_of_distribution",
    "unfamiliar_interval": "out_of_distribution_interval",
    "certificate": "privacy_check",
    "figures": "metrics",
}
OPTIONS = (
    "ema_films",
    "generator_rate",
    "critic_rate",
    "tick_steps",
    "least_diversity",
)
# Table, its key, a column of JSON by its present name, and the keys that are renamed in it.
JSON_COLUMNS = (
    ("model_version", "sha256", "card", tuple(KEYS)),
    ("data_version", "sha256", "summary", ("films",)),
    ("comparison", "id", "metrics", tuple(KEYS)),
    ("run", "id", "options", OPTIONS),
    ("run", "id", "progress", ("films", "films_per_second", "films_seen")),
    ("run", "id", "result", ("films",)),
    ("schedule", "id", "options", OPTIONS),
)
RENAMED_VALUES = (
    ("data_version", "kind", "films", "images"),
    ("screening", "reason", "unfamiliar-film", "out-of-distribution"),
    ("run", "run_type", "compare-arms", "compare-conditions"),
    ("schedule", "run_type", "compare-arms", "compare-conditions"),
)


def upgrade() -> None:
    """Rename what the product now calls otherwise."""
    for table, columns in RENAMED_COLUMNS.items():
        for old, new in columns.items():
            _rename(table, old, new)
    _move_synthetic("synthetic_film", "synthetic_image", {"certificate": "privacy_check"})
    for table, column, old, new in RENAMED_VALUES:
        _replace_value(table, column, old, new)
    for table, key, column, names in JSON_COLUMNS:
        mapping = {name: KEYS[name] for name in names}
        _rewrite(table, key, column, partial(_rename_keys, mapping))


def downgrade() -> None:
    """Give everything its old name again."""
    for table, key, column, names in JSON_COLUMNS:
        mapping = {KEYS[name]: name for name in names}
        _rewrite(table, key, column, partial(_rename_keys, mapping))
    for table, column, old, new in RENAMED_VALUES:
        _replace_value(table, column, new, old)
    _move_synthetic("synthetic_image", "synthetic_film", {"privacy_check": "certificate"})
    for table, columns in RENAMED_COLUMNS.items():
        for old, new in columns.items():
            _rename(table, new, old)


def _rename(table: str, old: str, new: str) -> None:
    # Written out: Alembic's batch mode would copy a table to which rows of others refer.
    quote = op.get_bind().dialect.identifier_preparer.quote
    op.execute(f"ALTER TABLE {quote(table)} RENAME COLUMN {quote(old)} TO {quote(new)}")


def _move_synthetic(old: str, new: str, renamed: Mapping[str, str]) -> None:
    """Copy the table of synthetic images: SQLite cannot rename constraints, and none refer to
    it.
    """
    connection = op.get_bind()
    check = next(iter(renamed.values()))
    for columns in ("label_id", "model_sha256_label_id"):
        op.drop_index(f"ix_{old}_{columns}", old)
    op.create_table(
        new,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        _reference(new, "model_sha256", "model_version.sha256"),
        _reference(new, "data_sha256", "data_version.sha256"),
        sa.Column("label", sa.String(50), nullable=False),
        sa.Column("seed", sa.String(20), nullable=False),
        sa.Column("image", sa.String(200), nullable=False),
        sa.Column("nearest_percentile", sa.Double(), nullable=True),
        sa.Column(check, sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{new}"),
        sa.UniqueConstraint("data_sha256", "image", name=f"uq_{new}_data_sha256_image"),
    )
    same = "id, model_sha256, data_sha256, label, seed, image, nearest_percentile"
    (was,) = renamed
    op.execute(f"INSERT INTO {new} ({same}, {check}) SELECT {same}, {was} FROM {old}")  # noqa: S608
    op.drop_table(old)
    for index in (["model_sha256", "label", "id"], ["label", "id"]):
        op.create_index(f"ix_{new}_{'_'.join(index)}", new, index)
    if connection.dialect.name == "postgresql":
        op.execute(
            f"SELECT setval(pg_get_serial_sequence('{new}', 'id'), "  # noqa: S608
            f"COALESCE((SELECT MAX(id) FROM {new}), 0) + 1, false)"
        )


def _reference(table: str, name: str, target: str) -> sa.Column[Any]:
    key = sa.ForeignKey(target, name=f"fk_{table}_{name}_{target.partition('.')[0]}")
    return sa.Column(name, sa.String(64), key, nullable=False)


def _replace_value(table: str, column: str, old: str, new: str) -> None:
    described = sa.table(table, sa.column(column, sa.String()))
    held = described.c[column]
    op.execute(described.update().where(held == old).values({column: new}))


def _rewrite(table: str, key: str, column: str, change: Callable[[Any], Any]) -> None:
    """Change the JSON of every row that the change concerns."""
    described = sa.table(table, sa.column(key), sa.column(column, sa.JSON()))
    connection = op.get_bind()
    rows = connection.execute(sa.select(described.c[key], described.c[column])).all()
    for row_key, value in rows:
        changed = change(value)
        if changed != value:
            connection.execute(
                described.update().where(described.c[key] == row_key).values({column: changed})
            )


def _rename_keys(mapping: Mapping[str, str], value: Any) -> Any:
    match value:
        case dict():
            return {mapping.get(k, k): _rename_keys(mapping, inner) for k, inner in value.items()}
        case list():
            return [_rename_keys(mapping, inner) for inner in value]
    return value
