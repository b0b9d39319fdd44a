"""What an ablation asks: its conditions, its data, how many images of each class."""

from collections.abc import Sequence
from dataclasses import dataclass

from ml.data.loading import FilmSet
from ml.data.manifest import FilmRecord, real_films
from ml.evaluation.metrics import Ints

REAL, AUGMENTED, SYNTHETIC = "real", "augmented", "synthetic"
# Name -> what it is called, and what it learns from.
ARMS = {
    REAL: ("real films", "real films alone"),
    AUGMENTED: (
        "real and augmented films",
        "real films, and of each class as many changed copies of them as there are synthetic films",
    ),
    SYNTHETIC: ("real and synthetic films", "real films and the synthetic ones"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """What the arms are asked: which films they learn from, and which they are measured on."""

    left_out: str  # a source that no arm learns from; empty: none
    learned: list[FilmRecord]  # of all splits, synthetic ones too
    measured: FilmSet

    @property
    def name(self) -> str:
        """Of folders and results."""
        return f"without-{self.left_out}" if self.left_out else "test"

    def records(self, arm: str, copies: Sequence[FilmRecord]) -> list[FilmRecord]:
        """What an arm's training is given."""
        extra = {REAL: (), AUGMENTED: copies, SYNTHETIC: synthetic_films(self.learned)}
        return [*real_films(self.learned), *extra[arm]]


def class_counts(films: FilmSet, chosen: Ints) -> dict[str, int]:
    patients = films.patients[chosen]
    return {"films": len(chosen), "patients": len(set(patients.tolist()))}


def synthetic_films(records: Sequence[FilmRecord]) -> list[FilmRecord]:
    """Keep the films that no person was x-rayed for."""
    return [record for record in records if record.synthetic]
