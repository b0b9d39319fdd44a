"""The tests of a block: their false alarms, measured, and what they find."""

import numpy as np
import pytest

from ml.evaluation.monitoring import (
    ALIKE,
    BLOCK_IMAGES,
    DECISIONS,
    FALSE_ALARMS,
    OOD,
    REFERENCE_IMAGES,
    REPEATED,
    Observed,
    alarm_rate,
    compare_block,
    judge_reviews,
    simulated_clinic,
)


@pytest.mark.parametrize("clinic", [{}, {"uncertain": 0.95}, {"uncertain": 0.1, "healthy": 0.97}])
def test_false_alarms_are_as_rare_as_promised(clinic: dict[str, float]) -> None:
    rate = alarm_rate(simulated_clinic(**clinic), simulated_clinic(**clinic), draws=600)
    assert rate.low <= FALSE_ALARMS
    assert rate.value < 2 * FALSE_ALARMS


@pytest.mark.parametrize("changed", [{"uncertain": 0.75}, {"healthy": 0.1}, {"ood_shift": 0.8}])
def test_changes_are_found(changed: dict[str, float]) -> None:
    rate = alarm_rate(simulated_clinic(), simulated_clinic(**changed), draws=200)
    assert rate.value > 0.9


def alarms(block: Observed) -> set[str]:
    reference = simulated_clinic()(np.random.default_rng(0), REFERENCE_IMAGES)
    return {test.test for test in compare_block(reference, block) if test.is_alarm}


def usual() -> Observed:
    return simulated_clinic()(np.random.default_rng(1), BLOCK_IMAGES)


def test_alarm_names_what_changed() -> None:
    block = usual()
    assert alarms(block) == set()
    far = Observed(
        block.decisions, block.confidence, [x + 1 for x in block.ood_score], block.images
    )
    assert alarms(far) == {OOD}
    same = Observed(
        block.decisions, block.confidence, block.ood_score, ["one"] * 20 + list(block.images[20:])
    )
    assert alarms(same) == {REPEATED}
    alike = Observed(
        ["normal"] * 20 + list(block.decisions[20:]),
        block.confidence,
        block.ood_score,
        block.images,
    )
    assert ALIKE in alarms(alike)
    assert DECISIONS in alarms(
        Observed(["covid"] * 100, block.confidence, block.ood_score, block.images)
    )


def test_clinic_whose_images_all_get_one_decision_does_not_alarm() -> None:
    def uncertain(random: np.random.Generator, count: int) -> Observed:
        drawn = simulated_clinic()(random, count)
        return Observed(["uncertain"] * count, drawn.confidence, drawn.ood_score, drawn.images)

    assert alarm_rate(uncertain, uncertain, draws=300).value < 2 * FALSE_ALARMS


def test_reviews_need_a_number_and_alarm_above_the_bound() -> None:
    few = judge_reviews(3, 5)
    assert (few.needed, few.is_alarm) == (15, False)
    assert not judge_reviews(2, 40).is_alarm
    assert judge_reviews(12, 40).is_alarm
