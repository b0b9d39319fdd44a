"""How real a generator's films look: the share that readers take for real, with its interval."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

# 97.5 % of the normal distribution lie below.
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(hits: float, films: float) -> Share:
    """A share of independent films with its 95 % score interval (Wilson, 1927)."""
    share, square = hits / films, _Z**2
    middle = (share + square / (2 * films)) / (1 + square / films)
    reach = sqrt(share * (1 - share) / films + square / (4 * films**2))
    reach *= _Z / (1 + square / films)
    return Share(share, max(0.0, middle - reach), min(1.0, middle + reach))


@dataclass(frozen=True, slots=True)
class Realism:
    """How often films are taken for real, over all rounds that count.

    Attributes:
        synthetic: of the generator's films. Where nobody can tell it is what `real` is.
        real: of the films of people: who calls all films real says nothing.
        films: synthetic films shown.
        rounds: rounds that count.
        readers: different visitors.
    """

    synthetic: Share
    real: Share
    films: int
    rounds: int
    readers: int


@dataclass(frozen=True, slots=True)
class Guesses:
    """One finished round: whose, and how many films of each half were taken for real."""

    reader: str
    synthetic: int
    real: int
    half: int  # films of each half


def realism_of(rounds: Sequence[Guesses]) -> Realism | None:
    """The figures of rounds that count; None where there are none."""
    if not rounds:
        return None
    return Realism(
        synthetic=share_over_readers([(one.reader, one.synthetic, one.half) for one in rounds]),
        real=share_over_readers([(one.reader, one.real, one.half) for one in rounds]),
        films=sum(one.half for one in rounds),
        rounds=len(rounds),
        readers=len({one.reader for one in rounds}),
    )


def share_over_readers(rounds: Sequence[tuple[str, int, int]]) -> Share:
    """The share of films taken for real, of (reader, taken for real, shown).

    Guesses of one reader go together, which makes them worth fewer: the interval is that of as many
    independent films as give the spread that is found between readers.
    """
    by_reader: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for reader, taken, shown in rounds:
        by_reader[reader][0] += taken
        by_reader[reader][1] += shown
    hits, films = (sum(own[part] for own in by_reader.values()) for part in (0, 1))
    share, readers = hits / films, len(by_reader)
    independent, spread = share * (1 - share) / films, 0.0
    if readers > 1:
        apart = sum((own[0] - share * own[1]) ** 2 for own in by_reader.values())
        spread = readers / (readers - 1) * apart / films**2
    effective = films * min(1.0, independent / spread) if spread else films
    return wilson(share * effective, effective)
