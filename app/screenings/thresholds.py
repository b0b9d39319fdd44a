"""The thresholds that past predictions were decided by, from their models or clinics."""

import uuid
from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.registry.tables import ModelVersion
from app.screenings.tables import Screening
from ml.classifier.card import Thresholds
from ml.classifier.predictor import Reason
from ml.texts import Number, msg


def thresholds_of(session: Session, rows: Collection[Screening]) -> dict[uuid.UUID, Thresholds]:
    """The thresholds that decided, by the screening's id: the model's, or the clinic's then."""
    named = {row.model_sha256 for row in rows}
    query = select(ModelVersion.sha256, ModelVersion.card).where(ModelVersion.sha256.in_(named))
    of_model = {
        sha256: Thresholds.from_values(card["thresholds"])
        for sha256, card in session.execute(query)
    }
    return {
        row.id: row.clinic_thresholds.applied_to(of_model[row.model_sha256])
        if row.clinic_thresholds
        else of_model[row.model_sha256]
        for row in rows
    }


def why_uncertain(row: Screening, thresholds: Thresholds) -> str:
    """Which value missed which threshold, in a few words; empty for a confident prediction.

    For example "top class 73.8 %, threshold 78.6 %".
    """
    match row.reason:
        case Reason.LOW_CONFIDENCE:
            label, top = max(row.probabilities.items(), key=lambda pair: pair[1])
            threshold = thresholds.confidence_for(label)
            if threshold > 1:
                return msg(
                    "top class %(top)s %%, a class that is never certain", top=Number(100 * top, 1)
                )
            # One digit would round 99.96 % to a threshold that nothing can reach.
            digits = 2 if threshold > 0.99 else 1
            return msg(
                "top class %(top)s %%, threshold %(threshold)s %%",
                top=Number(100 * top, digits),
                threshold=Number(100 * threshold, digits),
            )
        case Reason.OUT_OF_DISTRIBUTION:
            return msg(
                "out of distribution: score %(score)s, limit %(limit)s",
                score=Number(row.ood_score, 2),
                limit=Number(thresholds.ood_score, 2),
            )
    return ""
