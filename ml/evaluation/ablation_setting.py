"""The conditions of an ablation, and the settings in which they are trained and measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from ml.classifier.inputs import load_whole, network_inputs
from ml.classifier.sampling import require_all_classes, require_classes
from ml.data.leaks import without_leaks
from ml.data.left_out import images_left_out, without_left_out
from ml.data.loading import ImageSet, require_known
from ml.data.manifest import ImageRecord, in_split, labels_of, real_images
from ml.data.splits import Split
from ml.errors import DataError
from ml.evaluation.ablation_result import ConditionDescription
from ml.options.classifier import ClassifierOptions

REAL, AUGMENTED, SYNTHETIC = "real", "augmented", "synthetic"
CONDITIONS = {
    REAL: ConditionDescription(name="real images", learns="real images alone"),
    AUGMENTED: ConditionDescription(
        name="real and augmented images",
        learns="real images, and of each class as many changed copies of them as there are "
        "synthetic images",
    ),
    SYNTHETIC: ConditionDescription(
        name="real and synthetic images", learns="real images and the synthetic ones"
    ),
}


@dataclass(frozen=True, slots=True)
class AblationSetting:
    """Which images the conditions are trained with, and which they are measured on."""

    left_out: str  # sites or sources that no condition is trained with; empty: none
    learned: list[ImageRecord]  # of all splits, synthetic ones too
    measured: ImageSet

    @property
    def name(self) -> str:
        """Of folders and results."""
        return f"without-{self.left_out}" if self.left_out else "test"

    @property
    def measured_patients(self) -> int:
        """How many patients the measured images show."""
        return len(set(self.measured.patients.tolist()))

    def training_images(self) -> list[ImageRecord]:
        """The real images that every condition is trained with."""
        return in_split(real_images(without_left_out(self.learned, self.left_out)), Split.TRAIN)

    def records(self, condition: str, copies: Sequence[ImageRecord]) -> list[ImageRecord]:
        """The images of all splits that a condition's training is given."""
        extra = {REAL: (), AUGMENTED: copies, SYNTHETIC: synthetic_images(self.learned)}
        return [*real_images(self.learned), *extra[condition]]


def load_setting(
    real: Sequence[ImageRecord],
    synthetic: Sequence[ImageRecord],
    left_out: str,
    options: ClassifierOptions,
) -> AblationSetting:
    """Choose the images of a setting, and load those that are measured.

    Args:
        real: the images of all splits.
        synthetic: the images that the synthetic condition is trained with.
        left_out: sites or sources to exclude from training and to measure; empty: the test split is
            measured.
        options: of the trainings.

    Raises:
        DataError: there are no synthetic images, images cannot be read, a split lacks a class, or
            there is no site or source of a name that is to be left out.
    """
    without_left_out(real, left_out)  # says so where there is no such site or source
    labels = labels_of(real)
    require_classes(labels)
    require_known(synthetic, labels)
    learned = without_leaks([*real, *synthetic], left_out)
    if not synthetic_images(learned):
        raise DataError(
            "All synthetic images are near-duplicates of the images to measure on. Generate "
            "others with xray synthesize, and give their folder with --synthetic."
        )
    if left_out:
        measured = images_left_out(real, left_out)
    else:
        measured = in_split(real, Split.TEST)
        require_all_classes(measured, "test", labels)
    title = f"reading images of {left_out}" if left_out else "reading test images"
    whole = load_whole(measured, options, title=title, classes=labels)
    return AblationSetting(left_out, learned, network_inputs(whole, options))


def synthetic_images(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Keep the images that no person was x-rayed for."""
    return [record for record in records if record.synthetic]
