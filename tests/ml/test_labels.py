"""Names of classes."""

import pytest

from ml.labels import label_fault, label_name, labels_fault, listed_labels, ordered_labels


def test_known_classes_come_first() -> None:
    assert ordered_labels(["tuberculosis", "normal", "abscess", "covid", "normal"]) == (
        "covid", "normal", "abscess", "tuberculosis",
    )  # fmt: skip


def test_names_for_people() -> None:
    assert [label_name(label) for label in ("covid", "tuberculosis", "lung-opacity_2")] == [
        "COVID-19", "Tuberculosis", "Lung opacity 2",
    ]  # fmt: skip


def test_classes_in_a_sentence() -> None:
    assert listed_labels(["covid", "pneumonia", "normal"]) == "COVID-19, pneumonia or normal"
    assert listed_labels(["covid", "lung-opacity"], "and") == "COVID-19 and lung opacity"
    assert listed_labels(["normal"]) == "normal"
    assert listed_labels([]) == ""


@pytest.mark.parametrize("label", ["", "COVID", "a b", "1a", "-a", "a/b", "ä", "a" * 41, "a\n"])
def test_odd_names_are_refused(label: str) -> None:
    assert "not the name of a class" in label_fault(label)


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (["covid", "tuberculosis"], ""),
        ([], "No class"),
        (["covid", "covid"], "named twice"),
        (["covid", "uncertain"], "cannot be a class"),
        ([f"class-{number}" for number in range(21)], "21 classes are too many"),
    ],
)
def test_lists_of_classes(labels: list[str], fault: str) -> None:
    found = labels_fault(labels)
    assert fault in found
    assert bool(found) == bool(fault)
