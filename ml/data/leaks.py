"""No image that is learned from has a copy among those that measure."""

from collections.abc import Sequence

import numpy as np

from ml.data.left_out import is_left_out
from ml.data.manifest import ImageRecord
from ml.data.near_duplicates import close_images, hash_records
from ml.data.splits import Split

# An image gives way to its copies in a split of a higher number.
_RANKS = {Split.TRAIN: 0, Split.VALIDATION: 1, Split.TEST: 2}
_LEFT_OUT = 3


def without_leaks(records: Sequence[ImageRecord], left_out: str = "") -> list[ImageRecord]:
    """Leave out images that have a near-duplicate among the images they are measured by.

    Patients are kept on one side of the split by their keys, but public sets copy from each other
    under new names. A training image gives way to its copy in validation or test, a validation
    image
    to its copy in test, so the test images stay the same whatever else is in the data set.

    Args:
        records: images of all splits, whose files are read.
        left_out: sites or sources, commas between, that measure as a whole; every other image gives
            way to its copies.

    Returns:
        The images that are left, in their order.

    Raises:
        DataError: names every image that cannot be read.
    """
    ranks = np.array(
        [_LEFT_OUT if is_left_out(image, left_out) else _RANKS[image.split] for image in records]
    )
    dropped = np.zeros(len(records), np.bool_)
    for image, copies in close_images(hash_records(records)):
        dropped[image] |= (ranks[copies] > ranks[image]).any()
        dropped[copies[ranks[copies] < ranks[image]]] = True
    return [image for image, is_dropped in zip(records, dropped, strict=True) if not is_dropped]
