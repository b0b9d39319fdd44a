"""A small synthetic set: a generator, a folder of images, their privacy checks, their rows."""

import csv
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from app.core.database import now
from app.datasets.tables import DataKind, DataVersion
from app.gallery.registration import register_images
from app.registry.tables import ModelKind, ModelVersion
from app.settings import Settings
from ml.data.manifest import COLUMNS, SYNTHETIC_COLUMN
from ml.data.splits import Split
from ml.data.summary import DataSetSummary, DuplicateExamples
from ml.gan.synthesis.folder import PRIVACY_CHECK_COLUMNS, PRIVACY_CHECKS
from ml.gan.synthesis.watermark import Provenance, png_of
from ml.labels import KNOWN_LABELS

SIDE = 32
LICENCE = "CC BY 4.0"


def new_generator(session: Session, labels: Sequence[str] = ("covid", "normal")) -> ModelVersion:
    """A generator of which the card is there, and no file."""
    model = ModelVersion(
        sha256=uuid.uuid4().hex * 2,
        kind=ModelKind.GENERATOR,
        version="tiny",
        card={"options": {"labels": ",".join(labels), "conditional": True, "size": SIDE}},
    )
    session.add(model)
    session.flush()
    return model


def write_set(
    folder: Path, generator: str, images: Iterable[tuple[str, int]], *, certified: bool = True
) -> None:
    """A data set's folder with an image for each class and seed."""
    rows, privacy_checks = [], []
    source = f"gan-{generator[:12]}"
    for label, seed in images:
        image = f"images/{source}/{label}-{seed}.png"
        path = folder / image
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        path.write_bytes(png_of(noise, Provenance(generator, str(seed), label, 1.0, "test")))
        rows.append(
            {
                "image": image,
                "label": label,
                "source": source,
                "patient": f"{source}-{seed}",
                "license": LICENCE,
                "width": str(SIDE),
                "height": str(SIDE),
                SYNTHETIC_COLUMN: generator,
            }
        )
        privacy_checks.append(
            {
                "seed": str(seed),
                "file": image,
                "label": label,
                "generator_sha256": generator,
                "truncation": "1",
                "nearest_percentile": f"{37 + seed % 10}.25",
                "pixel_percentile": "61.00",
                "embedding_percentile": f"{37 + seed % 10}.25",
                "near_copy": "no",
                "realism": "1.120",
                "features": "pixels",
                "training_images": "3871",
                "held_out_images": "214",
                "generator_learned_from_them": "yes",
                "images_sha256": "f" * 64,
            }
        )
    _write(folder / "manifest.csv", (*COLUMNS, SYNTHETIC_COLUMN), rows)
    if certified:
        _write(folder / PRIVACY_CHECKS, PRIVACY_CHECK_COLUMNS, privacy_checks)


def _write(path: Path, columns: Sequence[str], rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def new_set(
    session: Session,
    settings: Settings,
    generator: ModelVersion,
    images: Iterable[tuple[str, int]],
    *,
    certified: bool = True,
) -> DataVersion:
    """A data version of synthetic images, in its place, not in the gallery yet."""
    sha256 = uuid.uuid4().hex * 2
    folder = settings.home.resolve() / "data" / sha256
    write_set(folder, generator.sha256, images, certified=certified)
    return new_version(session, sha256, DataKind.SYNTHETIC)


def summary_of(sha256: str, images: int = 0, demonstration: int = 0) -> DataSetSummary:
    """The summary of a data set that nobody looks into."""
    return DataSetSummary(
        sha256=sha256,
        images=images,
        by_label={},
        by_source={},
        by_split={},
        patients=images,
        duplicates=0,
        leaks=0,
        conflicts=0,
        examples=DuplicateExamples(leaks=[], conflicts=[]),
        warnings=[],
        synthetic=0,
        demonstration=demonstration,
    )


def summary_of_classes(sha256: str) -> DataSetSummary:
    """The summary of a data set that has images of the known classes in every split."""
    by_label = dict.fromkeys(KNOWN_LABELS, 20)
    by_split = {split.value: by_label for split in Split}
    return summary_of(sha256, images=180).model_copy(
        update={"by_label": by_label, "by_split": by_split}
    )


def data_version(sha256: str, kind: DataKind = DataKind.IMAGES, **changed: Any) -> DataVersion:
    """The row of a data version with 180 images of the known classes; nothing reads its files."""
    values = {
        "name": "images",
        "folder": f"data/{sha256}",
        "images": 180,
        "summary": summary_of_classes(sha256).as_json(),
        "created_by": "test",
    }
    return DataVersion(sha256=sha256, kind=kind, **values | changed)


def new_version(session: Session, sha256: str, kind: DataKind) -> DataVersion:
    """The row of a data version."""
    version = DataVersion(
        sha256=sha256,
        kind=kind,
        name="a set",
        folder=f"data/{sha256}",
        images=0,
        summary=summary_of(sha256).as_json(),
        created_at=now(),
        created_by="test",
    )
    session.add(version)
    session.flush()
    return version


def in_gallery(
    session: Session, settings: Settings, generator: ModelVersion, images: Iterable[tuple[str, int]]
) -> DataVersion:
    """The same, in the gallery."""
    version = new_set(session, settings, generator, images)
    register_images(session, version, settings.home.resolve() / version.folder)
    return version
