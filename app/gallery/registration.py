"""Register synthetic images in the gallery."""

from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.core.database import insert_ignore
from app.core.errors import Conflict
from app.datasets.tables import DataVersion
from app.gallery.tables import SyntheticImage, Visibility
from app.registry.tables import ModelKind, ModelVersion
from ml.data.manifest import SYNTHETIC_COLUMN, read_manifest_rows
from ml.gan.synthesis.folder import PRIVACY_CHECKS, read_privacy_checks
from ml.texts import msg


def _count_of(session: Session, which: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(SyntheticImage).where(which)) or 0


Row = dict[str, str]


def register_images(session: Session, data_version: DataVersion, folder: Path) -> int:
    """Put the images of a frozen synthetic set into the gallery; those in it already stay as is.

    Args:
        session: the database.
        data_version: the set's row.
        folder: the set, with its manifest and, where images were compared, privacy checks.

    Returns:
        How many images were added.

    Raises:
        Conflict: an image is not synthetic, or its generator is not registered.
        DataError: the manifest has faults, such as an image that lies outside of the folder.
    """
    privacy_checks = read_privacy_checks(folder / PRIVACY_CHECKS)
    rows = read_manifest_rows(folder)[1]
    _require_generators(session, {row.get(SYNTHETIC_COLUMN, "") for row in rows})
    of_version = SyntheticImage.data_sha256 == data_version.sha256
    before = _count_of(session, of_version)
    images = (_image(data_version, row, privacy_checks.get(row["image"], {})) for row in rows)
    insert_ignore(session, SyntheticImage, images)
    return _count_of(session, of_version) - before


def _require_generators(session: Session, named: set[str]) -> None:
    if "" in named:
        raise Conflict(
            msg(
                "The data set has images that are not synthetic. The gallery shows synthetic "
                "images only."
            )
        )
    known = session.scalars(
        select(ModelVersion.sha256).where(
            ModelVersion.sha256.in_(named), ModelVersion.kind == ModelKind.GENERATOR
        )
    )
    missing = sorted(named - set(known))
    if missing:
        raise Conflict(
            msg(
                "The data set has images of generator %(missing)s, which is not registered. "
                "Register it first.",
                missing=missing[0][:12],
            )
        )


def _image(version: DataVersion, row: Row, privacy_check: Row) -> dict[str, Any]:
    # Images without a privacy check have their seed at the end of the patient's key.
    after = row["patient"].rpartition("-")[2]
    percentile = privacy_check.get("nearest_percentile")
    return {
        "model_sha256": row[SYNTHETIC_COLUMN],
        "data_sha256": version.sha256,
        "label": row["label"],
        "seed": privacy_check.get("seed") or (after if after.isdecimal() else ""),
        "image": row["image"],
        "nearest_percentile": float(percentile) if percentile else None,
        "privacy_check": privacy_check,
        # An image that was not checked may show a patient's image again: an admin decides.
        "visibility": Visibility.PUBLIC if percentile else Visibility.HIDDEN,
    }
