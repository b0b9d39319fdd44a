"""The classes an image is screened for, in the order of the classifier's outputs."""

LABELS: tuple[str, ...] = ("covid", "pneumonia", "normal")
DISPLAY_NAMES: dict[str, str] = {
    "covid": "COVID-19",
    "pneumonia": "Pneumonia",
    "normal": "Normal",
}


def label_name(label: str) -> str:
    """The words for a label; one that is not known here stands for itself."""
    return DISPLAY_NAMES.get(label, label)
