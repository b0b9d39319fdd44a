"""Which of the images found come in, and under which patient's key."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ml.data.near_duplicates import DisjointSets, Hashes, duplicate_groups
from ml.data.splits import split_of

SAME_FILE = "same file again"
NEAR_DUPLICATE = "near-duplicate"
CONFLICT = "near-duplicate with another label"
TWO_SIDES = "ties patients of two splits"


@dataclass(frozen=True, slots=True)
class Known:
    """What settling needs to know of an image.

    Attributes:
        name: how the image is called in reports.
        digest: beginning of the SHA-256 of the file it came from.
    """

    name: str
    digest: str
    label: str
    patient: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """The outcome.

    Attributes:
        taken: number of a new image -> its patient's key.
        refused: number of a new image -> reason and detail.
        aliases: other key of a patient -> the key that is used.
    """

    taken: dict[int, str] = field(default_factory=dict)
    refused: dict[int, tuple[str, str]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


def resolve_duplicates(
    present: Sequence[Known], new: Sequence[Known], hashes: Hashes, *, keep_duplicates: bool = False
) -> Resolution:
    """Decide on new images, given those present, which stay as they are.

    Images that are near-duplicates are of one person, so their patients become one. Where that
    would join patients that are already on two sides of the split, the new images stay out.

    Args:
        present: images of the data set.
        new: images found, in the order of preference.
        hashes: of all images, those of the images present first.
        keep_duplicates: take near-duplicates of the same label too; never the same file twice.
    """
    images = [*present, *new]
    groups = duplicate_groups(hashes)
    keys, ties = _patient_keys(present, images, groups)
    joined = {other: key for other, key in keys.items() if other != key and other not in ties}
    settled = Resolution(aliases=joined)
    group_of = {member: group for group in groups for member in group}
    for number, image in enumerate(new):
        group = group_of.get(len(present) + number, [])
        earlier = [images[member] for member in group if member < len(present) + number]
        labels = {images[member].label for member in group}
        twin = next((one for one in earlier if one.digest == image.digest), None)
        if twin and twin.label == image.label:
            settled.refused[number] = (SAME_FILE, twin.name)
        elif image.patient in ties:
            settled.refused[number] = (TWO_SIDES, ties[image.patient])
        elif len(labels) > 1:
            other = next(images[member] for member in group if images[member].label != image.label)
            settled.refused[number] = (CONFLICT, f"{other.name} is {other.label}")
        elif earlier and not keep_duplicates:
            settled.refused[number] = (NEAR_DUPLICATE, earlier[0].name)
        else:
            settled.taken[number] = keys[image.patient]
    return settled


def _patient_keys(
    present: Sequence[Known], images: Sequence[Known], groups: list[list[int]]
) -> tuple[dict[str, str], dict[str, str]]:
    """The key of every patient, and those who tie two sides together."""
    people = DisjointSets[str]()
    for image in images:
        people.find(image.patient)
    for first, *others in groups:
        for other in others:
            people.join(images[first].patient, images[other].patient)
    # A patient who is in the data set keeps the key, and with it the split.
    fixed = {image.patient for image in present}
    keys: dict[str, str] = {}
    ties: dict[str, str] = {}
    for person in people.groups():
        own = [patient for patient in person if patient in fixed]
        if len({split_of(patient) for patient in own}) > 1:
            ties |= dict.fromkeys(person, " and ".join(own))
        for patient in person:
            keys[patient] = patient if patient in fixed else (own or person)[0]
    return keys, ties
