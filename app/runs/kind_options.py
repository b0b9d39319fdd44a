"""Options of the runs that are no training; those of trainings are in `ml.options`.

Names, defaults and ranges are those of the program's own flags, which a test compares.
"""

from dataclasses import dataclass, field
from typing import Any

from ml.labels import LABELS
from ml.options import ClassifierOptions

# Those of `ml.data.importers.prepare`, which takes long to import; first, what is one already.
DATA_SET = "data-set"
LAYOUTS = ("covid-chestxray-dataset", "radiography", "kermany", "nih", "folders", "dicom")


def _option(
    default: Any,
    text: str,
    low: float | None = None,
    high: float | None = None,
    *,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field as those of `ml.options`."""
    about = {"help": text, "min": low, "max": high, "choices": choices}
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True)
class NamedClassifierOptions(ClassifierOptions):
    """Training a classifier, and what the version that comes of it is called."""

    bundle_version: str = _option("", "Name of the version that comes of it; empty: date and run.")


@dataclass(frozen=True, slots=True)
class GanMeasuringOptions:
    """Measuring a generator."""

    samples: int = _option(512, "How many images it makes.", 16, 20_000)
    features: str = _option(
        "efficientnet-lite0,classifier", "Where images are compared, commas between."
    )


@dataclass(frozen=True, slots=True)
class SynthesisOptions:
    """Making images."""

    count: int = _option(64, "How many images, from seed 0 on.", 1, 100_000)
    seeds: str = _option("", "Images of these seeds instead, such as 0-63,100.")
    label: str = _option(
        "", "The class; none: as many of each that the generator makes.", choices=("", *LABELS)
    )
    truncation: float = _option(1.0, "Below 1: more usual images, less varied.", 0.1, 1)
    refuse_below: float = _option(
        1.0,
        "Refuse an image nearer to a training image than all but so many percent of held-out ones.",
        0,
        100,
    )


@dataclass(frozen=True, slots=True)
class ClassifierMeasuringOptions:
    """Measuring a classifier."""

    leave_out: str = _option("", "Measure on all images of this source, kept from its training.")


@dataclass(frozen=True, slots=True)
class NoOptions:
    """Nothing to choose."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Making a data version of images that come from somewhere."""

    name: str = _option("", "What people call the data set.")
    kind: str = _option(
        DATA_SET,
        "How the images come: as a data set with its manifest, or as a public set was downloaded.",
        choices=(DATA_SET, *LAYOUTS),
    )
    folder: str = _option("", "A folder on the worker's machine that holds them.")
    upload: str = _option("", "An uploaded archive that holds them: its folder's name in staging.")
    corrections: bool = _option(False, "Add the images whose label clinicians have reviewed.")
