"""What the page of the monitoring shows: names and numbers as text."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from app.core.language import percent_text
from app.monitoring.service import ClinicState, State
from app.monitoring.tables import MonitoringAlarm
from ml.classifier.predictor import decision_name
from ml.evaluation.monitoring import ALIKE, CONFIDENCE, DECISIONS, OOD, REPEATED, REVIEWS
from ml.texts import Number, msg

TEST_NAMES = {
    DECISIONS: msg("shares of the predictions"),
    CONFIDENCE: msg("probability of the most likely class"),
    OOD: msg("out-of-distribution score"),
    ALIKE: msg("many images in a row with the same prediction"),
    REPEATED: msg("files that were sent several times"),
    REVIEWS: msg("disagreement with reviews"),
}


@dataclass(frozen=True, slots=True)
class StateView:
    """A clinic.

    Attributes:
        shares: prediction, its share before and its share now.
        changes: what differs.
        reviews: what reviewers say, as a sentence.
    """

    clinic: str
    state: str
    is_alarm: bool
    model_sha256: str
    model_version: str
    images: int
    missing: int
    shares: list[tuple[str, str, str]]
    changes: list[str]
    reviews: str

    @classmethod
    def of(cls, state: ClinicState) -> Self:
        """Show a state."""
        return cls(
            clinic=state.group.clinic.name,
            state=state.state.value,
            is_alarm=state.state is State.ALARM,
            model_sha256=state.group.model_sha256,
            model_version=state.group.model_version,
            images=state.group.images,
            missing=state.missing,
            shares=_shares(state.before, state.after),
            changes=[
                msg(
                    "%(test)s (p = %(p_value)s)",
                    test=TEST_NAMES[test.test],
                    p_value=format(test.p_value, ".2g"),
                )
                for test in state.tests
                if test.is_alarm
            ],
            reviews=_reviews(state),
        )


def _shares(before: Mapping[str, float], after: Mapping[str, float]) -> list[tuple[str, str, str]]:
    names = sorted({*before, *after})
    return [
        (decision_name(name), percent_text(before.get(name, 0)), percent_text(after.get(name, 0)))
        for name in names
    ]


def _reviews(state: ClinicState) -> str:
    found = state.reviews
    if not found.wrong.n:
        return msg("no reviews of definite predictions")
    share, low, high = (
        Number(100 * value, 1) for value in (found.wrong.value, found.wrong.low, found.wrong.high)
    )
    text = msg(
        "%(share)s %% of %(n)s wrong (%(low)s to %(high)s %%)",
        share=share,
        n=found.wrong.n,
        low=low,
        high=high,
    )
    if not found.needed:
        return text
    return msg("%(text)s; %(needed)s more are needed", text=text, needed=found.needed)


@dataclass(frozen=True, slots=True)
class AlarmView:
    """An alarm in the list."""

    id: uuid.UUID
    at: datetime
    clinic: str
    test: str
    detail: str
    acknowledged_by: str | None

    @classmethod
    def of(cls, row: MonitoringAlarm) -> Self:
        """Show a row."""
        return cls(
            id=row.id,
            at=row.at,
            clinic=row.clinic.name,
            test=TEST_NAMES.get(row.test, row.test),
            detail=msg(
                "block %(block)s, p = %(p_value)s",
                block=str(row.detail["block"]),
                p_value=format(row.detail["p_value"], ".2g"),
            ),
            acknowledged_by=row.acknowledged_by,
        )
