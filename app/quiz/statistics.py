"""How real a generator's images look: the share that readers judge real, with its interval."""

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


def wilson(hits: float, images: float) -> Share:
    """A share of independent images with its 95 % score interval (Wilson, 1927)."""
    share, square = hits / images, _Z**2
    middle = (share + square / (2 * images)) / (1 + square / images)
    reach = sqrt(share * (1 - share) / images + square / (4 * images**2))
    reach *= _Z / (1 + square / images)
    return Share(share, max(0.0, middle - reach), min(1.0, middle + reach))


@dataclass(frozen=True, slots=True)
class Realism:
    """How often images are judged real, over all rounds that count.

    Attributes:
        synthetic: of the generator's images. Equal to `real` if readers cannot see a difference.
        real: of the images of people; the reference, since some readers call every image real.
        images: synthetic images shown.
        rounds: rounds that count.
        readers: different visitors.
    """

    synthetic: Share
    real: Share
    images: int
    rounds: int
    readers: int


@dataclass(frozen=True, slots=True)
class Guesses:
    """The finished rounds of one reader, and how many images of each half they judged real."""

    rounds: int
    synthetic: int
    real: int
    half: int  # images of each half, in all rounds


def realism_over_readers(readers: Sequence[Guesses]) -> Realism | None:
    """The metrics of the readers of rounds that count; None where there are none."""
    if not readers:
        return None
    return Realism(
        synthetic=share_over_readers([(one.synthetic, one.half) for one in readers]),
        real=share_over_readers([(one.real, one.half) for one in readers]),
        images=sum(one.half for one in readers),
        rounds=sum(one.rounds for one in readers),
        readers=len(readers),
    )


def share_over_readers(guesses: Sequence[tuple[int, int]]) -> Share:
    """The share of images judged real, from (judged real, shown) of each reader.

    Guesses of one reader go together, which makes them worth fewer: the interval is that of as many
    independent images as give the spread that is found between readers.
    """
    hits, images = (sum(own[part] for own in guesses) for part in (0, 1))
    share, readers = hits / images, len(guesses)
    independent, spread = share * (1 - share) / images, 0.0
    if readers > 1:
        apart = sum((taken - share * shown) ** 2 for taken, shown in guesses)
        spread = readers / (readers - 1) * apart / images**2
    effective = images * min(1.0, independent / spread) if spread else images
    return wilson(share * effective, effective)
