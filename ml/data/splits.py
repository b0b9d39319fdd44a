"""Split patients into training, validation and test sets."""

import hashlib
from enum import StrEnum


class Split(StrEnum):
    """Which part of the data a patient's images belong to."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


# Shares of the patients; the rest trains.
TEST_SHARE = 0.15
VALIDATION_SHARE = 0.10


def split_of(patient: str) -> Split:
    """Assign a patient to a split by the hash of the patient key.

    The assignment needs no other row, so images added later never move a patient from the
    test set to the training set.
    """
    digest = hashlib.sha256(patient.encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < TEST_SHARE:
        return Split.TEST
    if position < TEST_SHARE + VALIDATION_SHARE:
        return Split.VALIDATION
    return Split.TRAIN
