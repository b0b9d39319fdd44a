"""What an ablation asks: its conditions, its data, how many images of each class."""

from collections.abc import Sequence
from dataclasses import dataclass

from ml.data.loading import ImageSet
from ml.data.manifest import ImageRecord, real_images
from ml.evaluation.metrics import Ints

REAL, AUGMENTED, SYNTHETIC = "real", "augmented", "synthetic"
# Name -> what it is called, and what it learns from.
CONDITIONS = {
    REAL: ("real images", "real images alone"),
    AUGMENTED: (
        "real and augmented images",
        "real images, and of each class as many changed copies of them as there are synthetic "
        "images",
    ),
    SYNTHETIC: ("real and synthetic images", "real images and the synthetic ones"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """What the conditions are asked: which images they learn from, and which they are measured
    on.
    """

    left_out: str  # a source that no condition learns from; empty: none
    learned: list[ImageRecord]  # of all splits, synthetic ones too
    measured: ImageSet

    @property
    def name(self) -> str:
        """Of folders and results."""
        return f"without-{self.left_out}" if self.left_out else "test"

    def records(self, condition: str, copies: Sequence[ImageRecord]) -> list[ImageRecord]:
        """What a condition's training is given."""
        extra = {REAL: (), AUGMENTED: copies, SYNTHETIC: synthetic_images(self.learned)}
        return [*real_images(self.learned), *extra[condition]]


def class_counts(images: ImageSet, chosen: Ints) -> dict[str, int]:
    """How many images and patients are chosen."""
    patients = images.patients[chosen]
    return {"images": len(chosen), "patients": len(set(patients.tolist()))}


def synthetic_images(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Keep the images that no person was x-rayed for."""
    return [record for record in records if record.synthetic]
