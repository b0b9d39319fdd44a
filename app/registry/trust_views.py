"""The public page about how far the active classifier can be trusted."""

from dataclasses import dataclass
from typing import Self

from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.registry.files import evidence_of
from app.registry.tables import Activation, ModelVersion
from app.settings import Settings
from ml.classifier.card import ModelCard
from ml.errors import BundleError
from ml.evaluation.evidence import Evidence, read_evidence
from ml.reporting.trust import TrustSection, headline, is_alarming, trust_sections
from ml.texts import msg

MOST_VERSIONS = 50


@dataclass(frozen=True, slots=True)
class TrustView:
    """The page.

    Attributes:
        headline: what a reader must not miss, as a sentence.
        is_alarming: whether unseen hospitals were not measured, or were measured and failed.
        fault: why the measurements cannot be read; empty where they can.
    """

    version: str
    sha256: str
    headline: str
    is_alarming: bool
    fault: str
    sections: list[TrustSection]

    @classmethod
    def of(cls, session: Session, settings: Settings, card: ModelCard) -> Self:
        """Show what is known of the active classifier."""
        fault = ""
        try:
            evidence = _evidence(session, settings, card)
        except BundleError as problem:
            evidence, fault = Evidence(), str(problem)
        return cls(
            version=card.version,
            sha256=card.sha256,
            headline=headline(evidence),
            is_alarming=is_alarming(evidence),
            fault=fault,
            sections=trust_sections(card, evidence, _history(session, card)),
        )

    @property
    def charts(self) -> dict[str, list[Markup]]:
        """The charts of each section, by its id."""
        # The charts escape what they write.
        return {one.id: [Markup(chart) for chart in one.charts] for one in self.sections}  # noqa: S704


def _evidence(session: Session, settings: Settings, card: ModelCard) -> Evidence:
    model = session.get(ModelVersion, card.sha256)
    if model is not None and model.folder is not None:
        return evidence_of(settings, model)
    # The configured bundle answers before it is registered.
    return read_evidence(settings.bundle, card.sha256)


def _history(session: Session, card: ModelCard) -> list[tuple[str, ...]]:
    """Activations, newest first, and that a card was created where there is none."""
    query = (
        select(Activation, ModelVersion.version)
        .join(ModelVersion, ModelVersion.sha256 == Activation.model_sha256)
        .order_by(Activation.id.desc())
        .limit(MOST_VERSIONS)
    )
    rows: list[tuple[str, ...]] = [
        (f"{activation.at:%Y-%m-%d}", version, _what_happened(activation))
        for activation, version in session.execute(query)
    ]
    return rows or [(card.created_at[:10], card.version, msg("created; part of the application"))]


def _what_happened(activation: Activation) -> str:
    if activation.override:
        return msg("activated although promotion checks had failed, with a written reason")
    return "activated"
