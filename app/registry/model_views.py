"""The page of one model: promotion checks, comparisons and lineage."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.links import PageLink
from app.datasets.links import data_link
from app.datasets.tables import DataVersion
from app.registry.activation import find_blockers
from app.registry.audit_views import AuditView
from app.registry.comparisons import comparisons_of
from app.registry.files import evidence_of
from app.registry.links import model_link, model_url
from app.registry.promotion import (
    Blocker,
    ComparisonFindings,
    PromotionCase,
    PromotionCheck,
    promotion_blockers,
)
from app.registry.queries import Lineage, lineage, serving_sha256
from app.registry.tables import ModelKind, ModelVersion
from app.registry.views import (
    MetricText,
    ModelState,
    headline_metrics,
    state_of,
)
from app.runs.links import run_link
from app.settings import Settings
from ml.errors import BundleError
from ml.texts import msg


@dataclass(frozen=True, slots=True)
class ComparisonSummary:
    """A comparison in a list, seen from one of its two classifiers.

    Attributes:
        blockers: the promotion checks that the candidate fails by this comparison.
    """

    url: str
    at: datetime
    other: PageLink
    is_candidate: bool
    blockers: list[Blocker]
    data: PageLink | None


@dataclass(frozen=True, slots=True)
class ModelDetail:
    """A model on its own page of the console.

    Attributes:
        blockers: the promotion checks that it fails; None where it cannot be activated at all.
        audit: its audit, if there is one that can be read.
        lineage: the run and data it came from and the models that used it, by name; without
            empty entries.
        unknown_parents: SHA-256 of generators in its training data that are not registered.
    """

    url: str
    version: str
    sha256: str
    kind: ModelKind
    state: ModelState
    registered_at: datetime
    archived_at: datetime | None
    code_version: str
    metrics: list[MetricText]
    blockers: list[Blocker] | None
    comparisons: list[ComparisonSummary]
    audit: AuditView | None
    lineage: list[tuple[str, list[PageLink]]]
    unknown_parents: list[str]
    has_files: bool
    data_sha256: str

    @property
    def needs_override(self) -> bool:
        """Whether a written reason is enough to activate it, and needed."""
        return bool(self.blockers) and self.can_be_activated

    @property
    def can_be_activated(self) -> bool:
        """Whether it may be activated, with an override where checks failed."""
        return self.blockers is not None and all(one.can_be_overridden for one in self.blockers)

    @property
    def has_other_classes(self) -> bool:
        """Whether it predicts other classes than the active version."""
        return any(one.check is PromotionCheck.SAME_CLASSES for one in self.blockers or ())

    @property
    def can_be_compared(self) -> bool:
        """Whether a run may compare it with the active version."""
        return self.blockers is not None and not self.has_other_classes

    @classmethod
    def of(cls, session: Session, settings: Settings, model: ModelVersion) -> Self:
        """Show a row, with everything that refers to it."""
        state = state_of(model, serving_sha256(session, settings))
        is_candidate = model.kind is ModelKind.CLASSIFIER and state is ModelState.REGISTERED
        found = lineage(session, model)
        return cls(
            url=model_url(model.sha256),
            version=model.version,
            sha256=model.sha256,
            kind=model.kind,
            state=state,
            registered_at=model.registered_at,
            archived_at=model.archived_at,
            code_version=model.code_version,
            metrics=headline_metrics(model),
            blockers=find_blockers(session, settings, model) if is_candidate else None,
            comparisons=_comparisons(session, model),
            audit=_audit(settings, model),
            lineage=_lineage_links(found),
            unknown_parents=[sha256 for sha256, one in found.parents.items() if one is None],
            has_files=model.folder is not None,
            data_sha256=model.data_sha256 or "",
        )


def _audit(settings: Settings, model: ModelVersion) -> AuditView | None:
    if model.kind is not ModelKind.CLASSIFIER:
        return None
    try:
        found = evidence_of(settings, model).audit
    except BundleError:
        # The promotion checks say what is wrong with the files.
        return None
    return AuditView.of(found) if found else None


def _lineage_links(found: Lineage) -> list[tuple[str, list[PageLink]]]:
    named = (
        (msg("Run"), [run_link(found.run)] if found.run else []),
        (msg("Training data"), [data_link(found.data)] if found.data else []),
        (msg("Synthetic training images"), _model_links(found.parents.values())),
        (msg("Synthetic images"), [data_link(version) for version in found.synthetic]),
        (msg("Used to train"), _model_links(found.children)),
    )
    return [(name, links) for name, links in named if links]


def _model_links(models: Iterable[ModelVersion | None]) -> list[PageLink]:
    return [model_link(model) for model in models if model is not None]


def _comparisons(session: Session, model: ModelVersion) -> list[ComparisonSummary]:
    """The comparisons that a model took part in, newest first."""
    found = comparisons_of(session, model)
    digests = {side for one in found for side in (one.candidate_sha256, one.reference_sha256)}
    models = {
        each.sha256: each
        for each in session.scalars(select(ModelVersion).where(ModelVersion.sha256.in_(digests)))
    }
    keys = {one.data_sha256 for one in found if one.data_sha256}
    data = {
        each.sha256: each
        for each in session.scalars(select(DataVersion).where(DataVersion.sha256.in_(keys)))
    }
    return [_comparison(model, one, models, data) for one in found]


def _comparison(
    model: ModelVersion,
    found: ComparisonFindings,
    models: dict[str, ModelVersion],
    data: dict[str, DataVersion],
) -> ComparisonSummary:
    candidate, reference = models[found.candidate_sha256], models[found.reference_sha256]
    is_candidate = candidate.sha256 == model.sha256
    version = data.get(found.data_sha256 or "")
    return ComparisonSummary(
        url=comparison_url(found),
        at=found.created_at,
        other=model_link(reference if is_candidate else candidate),
        is_candidate=is_candidate,
        blockers=blockers_by_comparison(candidate, reference, found),
        data=data_link(version) if version else None,
    )


def blockers_by_comparison(
    candidate: ModelVersion, reference: ModelVersion, found: ComparisonFindings
) -> list[Blocker]:
    """The promotion checks that a candidate fails if a comparison is the deciding one."""
    return promotion_blockers(PromotionCase(candidate, reference.sha256, reference, found))


def comparison_url(found: ComparisonFindings) -> str:
    """The page of a comparison."""
    return f"{model_url(found.candidate_sha256)}/compare/{found.id}"
