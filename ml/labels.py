"""The classes a film is screened for, in the order of the classifier's outputs."""

LABELS: tuple[str, ...] = ("covid", "pneumonia", "normal")

DISPLAY_NAMES: dict[str, str] = {
    "covid": "COVID-19",
    "pneumonia": "Pneumonia",
    "normal": "Normal",
}
