"""No film that is learned from has a copy among those that measure."""

from collections.abc import Sequence

import numpy as np

from ml.data.manifest import FilmRecord
from ml.data.near_duplicates import close_films, hash_records
from ml.data.splits import Split

# A film gives way to its copies in a split of a higher number.
_RANKS = {Split.TRAIN: 0, Split.VALIDATION: 1, Split.TEST: 2}
_LEFT_OUT = 3


def without_leaks(records: Sequence[FilmRecord], left_out: str = "") -> list[FilmRecord]:
    """Leave out films that have a near-duplicate among the films they are measured by.

    Patients are kept on one side of the split by their keys, but public sets copy from each other
    under new names. A training film gives way to its copy in validation or test, a validation film
    to its copy in test, so the test films stay the same whatever else is in the data set.

    Args:
        records: films of all splits, whose files are read.
        left_out: a source that measures as a whole; every other film gives way to its copies.

    Returns:
        The films that are left, in their order.

    Raises:
        DataError: names every film that cannot be read.
    """
    ranks = np.array(
        [_LEFT_OUT if left_out == film.source else _RANKS[film.split] for film in records]
    )
    dropped = np.zeros(len(records), np.bool_)
    for film, copies in close_films(hash_records(records)):
        dropped[film] |= (ranks[copies] > ranks[film]).any()
        dropped[copies[ranks[copies] < ranks[film]]] = True
    return [film for film, is_dropped in zip(records, dropped, strict=True) if not is_dropped]
