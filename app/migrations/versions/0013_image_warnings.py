"""Warnings of images as codes with parameters; the sentences of before are read once, here."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

# The first words of each sentence, as they were stored, and its code.
BEGINNINGS = {
    "The image looked inverted, with dark bones.": "inverted",
    "The image looked rotated.": "rotated",
    "The image does not look like a frontal chest X-ray.": "no-frontal-chest",
    "The DICOM file is marked FOR PROCESSING": "for-processing",
    "The DICOM header contradicts itself about which grey levels": "grey-scale-unclear",
    "The display window of the DICOM file cannot be used.": "window-ignored",
    "The DICOM modality does not say that this is an X-ray image.": "not-an-x-ray-modality",
}
SCREENING = sa.table(
    "screening",
    sa.column("id"),
    sa.column("image_metadata", sa.JSON()),
    sa.column("warnings", sa.JSON()),
)


def upgrade() -> None:
    """Add the column, and move the sentences in the metadata to it."""
    column: sa.Column[Any] = sa.Column("warnings", sa.JSON(), nullable=False, server_default="[]")
    op.add_column("screening", column)
    for key, metadata in _rows():
        if "Warnings" in metadata:
            text = metadata.pop("Warnings")
            _write(key, image_metadata=metadata, warnings=_codes(text, metadata))


def _rows() -> list[tuple[Any, dict[str, str]]]:
    columns = SCREENING.c.id, SCREENING.c.image_metadata
    held = sa.cast(SCREENING.c.image_metadata, sa.Text()).contains("Warnings")
    return [
        (key, metadata) for key, metadata in op.get_bind().execute(sa.select(*columns).where(held))
    ]


def _write(key: Any, **values: Any) -> None:
    op.get_bind().execute(SCREENING.update().where(SCREENING.c.id == key).values(values))


def _codes(text: str, metadata: dict[str, str]) -> list[dict[str, Any]]:
    shape = "INVERSE" if metadata.get("PhotometricInterpretation") == "MONOCHROME2" else "IDENTITY"
    parameters = {
        # Images were turned for the prediction alone.
        "inverted": {"shown-as-sent": "yes"},
        "rotated": {"shown-as-sent": "yes"},
        "grey-scale-unclear": {
            "photometric": metadata.get("PhotometricInterpretation", "unknown"),
            "shape": shape,
        },
        "not-an-x-ray-modality": {"modality": metadata.get("Modality", "unknown")},
    }
    found = [code for beginning, code in BEGINNINGS.items() if beginning in text]
    return [{"code": code, "parameters": parameters.get(code, {})} for code in found]


def downgrade() -> None:
    """Remove the column: releases before this one had no warnings."""
    op.drop_column("screening", "warnings")
