"""Whether the newest images of a clinic differ from its first ones: tests of one block at a time.

The first images of a clinic by one classifier are the reference. Each later block of images is
compared with it once, so there is no correction for looking often. What the tests promise, that all
of them together alarm in 1 % of the blocks without a change, is measured by simulation.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ml.evaluation.binomial import beta_cdf, clopper_pearson, lower_limit, upper_limit
from ml.evaluation.metrics import Interval
from ml.evaluation.two_sample import chi_square, kolmogorov_smirnov

REFERENCE_IMAGES, BLOCK_IMAGES = 200, 100
# Of all tests of a block together.
FALSE_ALARMS = 0.01
# Rarer decisions are counted together: the chi-square test needs some of each.
_LEAST_COUNT = 15
# Definite predictions that reviewers may call wrong, and reviews that are needed to say more.
MOST_WRONG, LEAST_REVIEWS = 0.05, 20
_REVIEW_CONFIDENCE = 0.99
DECISIONS, CONFIDENCE, OOD, ALIKE, REPEATED, REVIEWS = (
    "decisions",
    "confidence",
    "ood_score",
    "alike",
    "repeated",
    "reviews",
)
TESTS = (DECISIONS, CONFIDENCE, OOD, ALIKE, REPEATED)


@dataclass(frozen=True, slots=True)
class Observed:
    """Predictions in their order, all of one length.

    Attributes:
        decisions: a class or "uncertain".
        confidence: probability of the most likely class.
        ood_score: distance from the training images.
        images: something that is equal for equal files.
    """

    decisions: Sequence[str]
    confidence: Sequence[float]
    ood_score: Sequence[float]
    images: Sequence[str]

    def __len__(self) -> int:
        return len(self.decisions)


@dataclass(frozen=True, slots=True)
class BlockTest:
    """One property of a block beside the reference.

    Attributes:
        test: one of `TESTS`.
        p_value: chance of such a difference without a change.
        is_alarm: whether it is below the bound for all tests together.
    """

    test: str
    p_value: float
    is_alarm: bool


def compare_block(reference: Observed, block: Observed) -> list[BlockTest]:
    """Test a block against the reference."""
    found = {
        DECISIONS: _decisions(reference.decisions, block.decisions),
        CONFIDENCE: kolmogorov_smirnov(reference.confidence, block.confidence).p_value,
        OOD: kolmogorov_smirnov(reference.ood_score, block.ood_score).p_value,
        ALIKE: _alike(reference.decisions, block.decisions),
        REPEATED: _repeated(reference.images, block.images),
    }
    bound = FALSE_ALARMS / len(found)
    return [BlockTest(test, p_value, p_value < bound) for test, p_value in found.items()]


def _decisions(reference: Sequence[str], block: Sequence[str]) -> float:
    before, after = Counter(reference), Counter(block)
    both = before + after
    common = [name for name, count in both.items() if count >= _LEAST_COUNT]
    rows = [
        [*(counts[name] for name in common), sum(counts.values()) - sum(counts[n] for n in common)]
        for counts in (before, after)
    ]
    return chi_square(*rows).p_value


def _alike(reference: Sequence[str], block: Sequence[str]) -> float:
    """A bound of the chance that so many images in a row get the same decision."""
    longest, length = 1, 1
    for before, after in pairwise(block):
        length = length + 1 if before == after else 1
        longest = max(longest, length)
    counts = Counter(reference)
    # The upper limits: a share of 200 images is not known exactly.
    shares = [upper_limit(counts[name], len(reference)) for name in {*counts, *block}]
    starts = len(block) - longest + 1
    return min(1.0, starts * sum(share**longest for share in shares))


def _repeated(reference: Sequence[str], block: Sequence[str]) -> float:
    """The chance of so many files that were sent before within the block."""
    before, after = (len(images) - len(set(images)) for images in (reference, block))
    if after == 0:
        return 1.0
    # At least one in a hundred is no alarm: sending an image again is common.
    share = max(0.01, upper_limit(before, len(reference)))
    return beta_cdf(share, after, len(block) - after + 1)


@dataclass(frozen=True, slots=True)
class ReviewedShare:
    """Definite predictions that reviewers called wrong.

    Attributes:
        wrong: their share; NaN without reviews.
        is_alarm: whether more than the bound are wrong, with 99 % confidence.
        needed: reviews that are missing to say so.
    """

    wrong: Interval
    is_alarm: bool
    needed: int


def judge_reviews(wrong: int, reviewed: int) -> ReviewedShare:
    """Whether reviewers disagree with the definite predictions too often."""
    limit = lower_limit(wrong, reviewed, _REVIEW_CONFIDENCE)
    needed = max(0, LEAST_REVIEWS - reviewed)
    return ReviewedShare(
        clopper_pearson(wrong, reviewed), needed == 0 and limit > MOST_WRONG, needed
    )


Draw = Callable[[np.random.Generator, int], Observed]


def alarm_rate(reference: Draw, block: Draw, *, draws: int = 1000, seed: int = 0) -> Interval:
    """Measure how often a block alarms.

    Args:
        reference: draws so many images of the time before.
        block: draws so many of the time after.
        draws: of a reference and a block.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    alarms = sum(
        any(
            test.is_alarm
            for test in compare_block(
                reference(random, REFERENCE_IMAGES), block(random, BLOCK_IMAGES)
            )
        )
        for _ in range(draws)
    )
    return clopper_pearson(alarms, draws)


def simulated_clinic(
    *, uncertain: float = 0.4, healthy: float = 0.5, ood_shift: float = 0.0
) -> Draw:
    """A clinic of independent images, for simulation.

    Args:
        uncertain: share of images without a definite prediction.
        healthy: share of the others that are called normal.
        ood_shift: what is added to every out-of-distribution score, in standard deviations.
    """
    shares = (
        uncertain,
        (1 - uncertain) * healthy,
        (1 - uncertain) * (1 - healthy) * 0.7,
        (1 - uncertain) * (1 - healthy) * 0.3,
    )

    def draw(random: np.random.Generator, count: int) -> Observed:
        decisions = random.choice(["uncertain", "normal", "pneumonia", "covid"], count, p=shares)
        definite = decisions != "uncertain"
        confidence = np.where(
            definite, random.uniform(0.8, 1, count), random.uniform(0.35, 0.8, count)
        )
        scores = random.normal(1 + 0.2 * ood_shift, 0.2, count)
        return Observed(
            decisions.tolist(),
            confidence.tolist(),
            scores.tolist(),
            [str(number) for number in random.integers(2**60, size=count)],
        )

    return draw
