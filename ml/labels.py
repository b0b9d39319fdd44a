"""The classes of a data set or a classifier: their names, their order, what people call them.

A data set names its classes in its manifest, a classifier in its card. No list of them stands in
the code: the table below only gives the three classes of the released models their order and their
names on pages.
"""

import re
from collections.abc import Iterable, Sequence

from ml.texts import msg

# In the order of the released classifier's outputs.
DISPLAY_NAMES: dict[str, str] = {
    "covid": "COVID-19",
    "pneumonia": msg("Pneumonia"),
    "normal": msg("Normal"),
}
KNOWN_LABELS: tuple[str, ...] = tuple(DISPLAY_NAMES)
# Where the classes are still a constant.
LABELS = KNOWN_LABELS
MOST_LABELS = 20
MOST_LETTERS = 40
# What a review says of an image that shows none of the classes.
OTHER_FINDING, NOT_READABLE, NOT_FRONTAL = "other-finding", "not-readable", "not-frontal"
NO_CLASS: dict[str, str] = {
    OTHER_FINDING: msg("Other finding"),
    NOT_READABLE: msg("Not readable"),
    NOT_FRONTAL: msg("Not a frontal chest X-ray"),
}
# What stands beside the classes in tables of predictions and reviews, so that no class can be
# called it.
RESERVED = frozenset({"uncertain", "path", "label", "decision", "reason", "error", *NO_CLASS})
_NAME = re.compile(rf"[a-z][a-z0-9_-]{{0,{MOST_LETTERS - 1}}}")


def label_name(label: str) -> str:
    """What people call a class: "covid" -> "COVID-19", "lung-opacity" -> "Lung opacity"."""
    words = label.replace("-", " ").replace("_", " ")
    return (DISPLAY_NAMES | NO_CLASS).get(label, words[:1].upper() + words[1:])


def listed_labels(labels: Sequence[str], conjunction: str = "or") -> str:
    """The classes in a sentence: "COVID-19, pneumonia or normal"."""
    words = [in_sentence(label_name(label)) for label in labels]
    return f" {conjunction} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def in_sentence(name: str) -> str:
    """The name of a class within a sentence: "Pneumonia" -> "pneumonia"; COVID-19 stays."""
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def label_fault(label: str) -> str:
    """What is wrong with the name of a class; empty where nothing is."""
    if label in RESERVED:
        return f"{label!r} cannot be a class. The word has another meaning in results."
    if not _NAME.fullmatch(label):
        return (
            f"{label!r:.60} is not the name of a class. Use 1 to {MOST_LETTERS} lower-case "
            "letters, digits, - and _, beginning with a letter."
        )
    return ""


def labels_fault(labels: Sequence[str]) -> str:
    """What is wrong with a list of classes, each named once; empty where nothing is."""
    faults = [fault for label in labels if (fault := label_fault(label))]
    if faults:
        return faults[0]
    if not labels:
        return "No class is named."
    if len(set(labels)) < len(labels):
        return f"A class is named twice in {', '.join(labels)}."
    if len(labels) > MOST_LABELS:
        return f"{len(labels)} classes are too many. The maximum is {MOST_LABELS}."
    return ""


def ordered_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes once each: the known ones in their order, then the others by the alphabet."""
    found = set(labels)
    others = sorted(found.difference(KNOWN_LABELS))
    return (*(label for label in KNOWN_LABELS if label in found), *others)
