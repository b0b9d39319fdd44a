"""Sampling weights, and which images a classifier trains on."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml.data.manifest import FilmRecord
from ml.errors import DataError
from ml.labels import LABELS


def sampling_weights(
    records: Sequence[FilmRecord], synthetic_share: float = 0.5
) -> NDArray[np.float64]:
    """(N,) chances that balance the classes and soften the imbalance of their sources.

    Every class is drawn equally often. Within a class a source counts by the square root of its
    size: a small hospital is seen more often than its share, yet its few films are not repeated
    endlessly. Where a class has real films and synthetic ones, each kind is divided so by itself.

    Args:
        records: N films.
        synthetic_share: chance that a film drawn of a class that has both kinds is synthetic,
            however many there are.
    """
    films = Counter((record.label, record.source, bool(record.synthetic)) for record in records)
    mass = {key: math.sqrt(count) for key, count in films.items()}
    of_kind: dict[tuple[str, bool], float] = {}
    for (label, _, synthetic), part in mass.items():
        of_kind[label, synthetic] = of_kind.get((label, synthetic), 0.0) + part
    weights = []
    for record in records:
        key = record.label, record.source, bool(record.synthetic)
        weight = mass[key] / of_kind[record.label, bool(record.synthetic)] / films[key]
        if (record.label, not record.synthetic) in of_kind:
            weight *= synthetic_share if record.synthetic else 1 - synthetic_share
        weights.append(weight)
    chances: NDArray[np.float64] = np.array(weights) / np.sum(weights)
    return chances


def without_source(records: Sequence[FilmRecord], source: str) -> list[FilmRecord]:
    """The films of all sources but one; of all where the name is empty.

    Raises:
        DataError: no film has this source.
    """
    sources = sorted({record.source for record in records})
    if source and source not in sources:
        raise DataError(
            f"cannot leave out {source!r}: the data set has the sources {', '.join(sources)}"
        )
    return [record for record in records if record.source != source]


def require_all_classes(records: Sequence[FilmRecord], name: str) -> None:
    """Check that a split can be learned from.

    Raises:
        DataError: names the classes that the split has no film of.
    """
    missing = set(LABELS) - {record.label for record in records}
    if missing:
        raise DataError(
            f"the {name} split has no film of {', '.join(sorted(missing))}: "
            "every class needs films of several patients"
        )


def count_synthetic(films: Sequence[FilmRecord]) -> dict[str, dict[str, int]]:
    """Synthetic films: SHA-256 of their generator -> label -> count; empty where none is."""
    counts: dict[str, dict[str, int]] = {}
    for film in films:
        if film.synthetic:
            of_generator = counts.setdefault(film.synthetic, dict.fromkeys(LABELS, 0))
            of_generator[film.label] += 1
    return counts
