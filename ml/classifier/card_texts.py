"""What a classifier's card says besides its numbers."""

from collections.abc import Sequence

from ml.data.manifest import ImageRecord, is_demonstration
from ml.labels import KNOWN_LABELS, label_name

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
LIMITATIONS = [
    "The label is confounded with the source of the image: no COVID-19 image comes from the "
    "paediatric source or from NIH, so part of the overall performance is recognition of the "
    "source. Judge the classifier by the metrics within one source.",
    "The radiography source is itself a mixture: its COVID-19 images come mostly from Spanish "
    "hospitals, its normal images from elsewhere, so its metric is confounded as well.",
    "Expect clearly lower performance on images of a hospital that is not in the training data.",
    "Public data sets copy from each other. Near-duplicates of test images were removed from the "
    "training data; copies that were cropped, resized or compressed further may remain.",
    "The labels of the NIH source were extracted from reports by software and are partly wrong.",
    "The children are 1 to 5 years old and come from one hospital in Guangzhou; ages 6 to 17 were "
    "not evaluated.",
    "The probabilities are calibrated for the class frequencies of the data set, which differ from "
    "those of a clinic: where COVID-19 is rarer they are too high.",
    "Sex and age are unknown for most images; differences between groups were not evaluated.",
    "Lateral images, computed tomography and other body parts are not detected reliably: the "
    "threshold of the out-of-distribution score flags many, not all.",
]
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
    findings = "the classes " + ", ".join(label_name(label) for label in labels)
    if tuple(labels) == KNOWN_LABELS:
        findings = "COVID-19 and other pneumonia"
    return INTENDED_USE.format(findings=findings)


def limitations_of(images: Sequence[ImageRecord]) -> list[str]:
    """The limitations of a classifier that was trained and evaluated on these images."""
    return [STAND_INS, *LIMITATIONS] if is_demonstration(images) else LIMITATIONS
