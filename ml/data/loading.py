"""Films of a data set, standardised and held in memory as grey levels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from ml.data.manifest import FilmRecord, listed
from ml.errors import DataError
from ml.imaging.decode import read_film
from ml.imaging.preprocessing import BlankFilm, standardise
from ml.imaging.types import UnreadableFilm
from ml.labels import LABELS


@dataclass(frozen=True, slots=True)
class FilmSet:
    """Standardised films in memory with what is known of each."""

    records: list[FilmRecord]
    films: NDArray[np.uint8]  # (N, S, S)
    labels: NDArray[np.int64]  # (N,) class numbers

    def __len__(self) -> int:
        return len(self.records)

    @property
    def patients(self) -> NDArray[np.str_]:
        """(N,) patient keys."""
        return np.array([record.patient for record in self.records])

    def numbers_in(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """(N,) places of the films' labels in a list that has them all."""
        return np.array([labels.index(record.label) for record in self.records], dtype=np.int64)

    @property
    def sources(self) -> NDArray[np.str_]:
        """(N,) names of the films' sources."""
        return np.array([record.source for record in self.records])


def load_films(
    records: Sequence[FilmRecord],
    size: int,
    *,
    title: str,
    quiet: bool = False,
    enlarge: bool = True,
) -> FilmSet:
    """Decode and standardise films into memory.

    Args:
        records: the films.
        size: side that they are brought to, in pixels.
        title: what the progress bar says.
        quiet: shows no bar.
        enlarge: also films with a side below `size`; else they are left out.

    Raises:
        DataError: names the films that cannot be read.
    """
    films = np.empty((len(records), size, size), dtype=np.uint8)
    kept: list[FilmRecord] = []
    faults = []
    for record in track(records, description=title, transient=True, disable=quiet):
        try:
            content = record.path.read_bytes()
            pixels = read_film(content, shortest=2 * size, least_side=record.least_side).pixels
            if enlarge or min(pixels.shape) >= size:
                films[len(kept)] = standardise(pixels, size)
                kept.append(record)
        except (UnreadableFilm, BlankFilm) as problem:
            faults.append(f"{record.path}: {problem}")
    if faults:
        raise DataError(f"{len(faults)} film(s) cannot be read:{listed(faults)}")
    labels = np.array([LABELS.index(record.label) for record in kept], dtype=np.int64)
    return FilmSet(kept, films[: len(kept)], labels)
