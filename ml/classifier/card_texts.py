"""What a classifier's card says besides its numbers."""

from collections.abc import Iterator, Sequence

from ml.data.manifest import ImageRecord, is_demonstration
from ml.labels import KNOWN_LABELS, listed_labels

PREPROCESSING = (
    "grey image, higher is brighter; squeezed to the input size as a whole; grey levels stretched "
    "from the 1st to the 99th percentile to 0 to 255; the graph scales them to [-1, 1]"
)
LUNG_CROP = (
    f"{PREPROCESSING}. Within the graph a network finds the lungs, the image is cropped to the box "
    "around them, and its grey levels are stretched again"
)
INTENDED_USE = (
    "Research and education: to study chest X-ray screening for {findings} and its pitfalls. "
    "Frontal images of adults and children. Not a medical device: its predictions are not a "
    "diagnosis and must not guide the care of a patient."
)
UNSEEN_HOSPITALS = (
    "Expect clearly lower performance on images of a hospital that is not in the training data."
)
LIMITATIONS = [
    "Public data sets copy from each other. Near-duplicates of test images were removed from the "
    "training data; copies that were cropped, resized or compressed further may remain.",
    "The probabilities are calibrated for the class frequencies of the data set, which differ from "
    "those of a clinic: where a class is rarer its probability is too high.",
    "Lateral images, computed tomography and other body parts are not detected reliably: the "
    "threshold of the out-of-distribution score flags many, not all.",
]
# What is known of a public set, by the name that its importer gives it.
LIMITATIONS_OF_SOURCE = {
    "radiography": "The radiography source is itself a mixture: its COVID-19 images come mostly "
    "from Spanish hospitals, its normal images from elsewhere, so its metric is confounded as "
    "well.",
    "nih": "The labels of the NIH source were extracted from reports by software and are partly "
    "wrong.",
    "kermany": "The children of the source kermany are 1 to 5 years old and come from one hospital "
    "in Guangzhou.",
}
UNKNOWN_PATIENTS = (
    "Sex and age are unknown for most images; differences between groups were not evaluated."
)
STAND_INS = (
    "Synthetic images of the demonstration set are among the training or test images. The metrics "
    "say nothing about patients."
)
LICENCE = (
    "Research and non-commercial use: some of the training images are licensed CC BY-NC-SA or for "
    "research only."
)


def intended_use(labels: Sequence[str]) -> str:
    """What a classifier of these classes is for."""
    findings = f"the classes {listed_labels(labels, 'and')}"
    if tuple(labels) == KNOWN_LABELS:
        findings = "COVID-19 and other pneumonia"
    return INTENDED_USE.format(findings=findings)


def limitations_of(images: Sequence[ImageRecord]) -> list[str]:
    """The limitations of a classifier that was trained and evaluated on these images."""
    sources = {image.source for image in images}
    known = sum(bool(image.sex and image.age) for image in images)
    return [
        *([STAND_INS] if is_demonstration(images) else []),
        *_confounding(images),
        *(text for source, text in LIMITATIONS_OF_SOURCE.items() if source in sources),
        UNSEEN_HOSPITALS,
        *LIMITATIONS,
        *([UNKNOWN_PATIENTS] if known < len(images) / 2 else []),
    ]


def _confounding(images: Sequence[ImageRecord]) -> Iterator[str]:
    """Whether the class of an image can be guessed from the source that it comes from."""
    labels_of: dict[str, set[str]] = {}
    for image in images:
        labels_of.setdefault(image.source, set()).add(image.label)
    every = set().union(*labels_of.values())
    whole = sum(found == every for found in labels_of.values())
    if whole < len(labels_of):
        yield (
            f"The label is confounded with the source of the image: {whole or 'none'} of the "
            f"{len(labels_of)} sources {'has' if whole < 2 else 'have'} images of every class, so "
            "part of the overall performance is recognition of the source. Judge the classifier "
            "by its performance by source."
        )
