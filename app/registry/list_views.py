"""The list of models: every version with its state, metrics and origin, and past activations."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.links import PageLink
from app.datasets.links import data_link
from app.datasets.tables import DataVersion
from app.registry.activation_history import was_rolled_back
from app.registry.comparisons import deciding_comparison, find_comparisons
from app.registry.links import model_link, model_url
from app.registry.promotion import (
    ComparisonFindings,
    PromotionCase,
    PromotionCheck,
    promotion_blockers,
)
from app.registry.queries import list_models, serving_sha256
from app.registry.tables import Activation, Comparison, ModelKind, ModelVersion
from app.registry.trial import trial_reasons
from app.registry.views import (
    MetricText,
    ModelState,
    headline_metrics,
    state_of,
)
from app.runs.links import run_link
from app.runs.tables import Run
from app.settings import Settings
from ml.texts import msg

_MAX_ACTIVATIONS = 20


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A model in a list.

    Attributes:
        promotion: the result of the promotion checks; empty for a model that cannot be activated.
        metrics: those that the head of the list names.
    """

    url: str
    version: str
    sha256: str
    state: ModelState
    promotion: str
    metrics: list[MetricText]
    data: PageLink | None
    run: PageLink | None
    code_version: str
    registered_at: datetime


@dataclass(frozen=True, slots=True)
class _Related:
    """What the rows of a list refer to, each kind from one query."""

    session: Session
    settings: Settings
    active_sha256: str | None
    active: ModelVersion | None
    data: dict[str, DataVersion]
    runs: dict[object, Run]
    comparisons: list[ComparisonFindings]

    @classmethod
    def of(cls, session: Session, settings: Settings, models: Iterable[ModelVersion]) -> "_Related":
        active = serving_sha256(session, settings)
        digests = {model.data_sha256 for model in models if model.data_sha256}
        ids = {model.run_id for model in models if model.run_id}
        data = session.scalars(select(DataVersion).where(DataVersion.sha256.in_(digests)))
        runs = session.scalars(select(Run).where(Run.id.in_(ids)))
        return cls(
            session=session,
            settings=settings,
            active_sha256=active,
            active=session.get(ModelVersion, active) if active else None,
            data={version.sha256: version for version in data},
            runs={run.id: run for run in runs},
            comparisons=find_comparisons(session, Comparison.reference_sha256 == active)
            if active
            else [],
        )


def list_summaries(session: Session, settings: Settings, kind: ModelKind) -> list[ModelSummary]:
    """All models of a kind: the active one first, then by state, newest first."""
    models = list_models(session, kind, all_of_them=True)
    related = _Related.of(session, settings, models)
    states = list(ModelState)
    summaries = [_summary(model, related) for model in models]
    return sorted(summaries, key=lambda summary: states.index(summary.state))


def _summary(model: ModelVersion, related: _Related) -> ModelSummary:
    state = state_of(model, related.active_sha256)
    data = related.data.get(model.data_sha256 or "")
    run = related.runs.get(model.run_id)
    return ModelSummary(
        url=model_url(model.sha256),
        version=model.version,
        sha256=model.sha256,
        state=state,
        promotion=_promotion(model, related) if state is ModelState.REGISTERED else "",
        metrics=headline_metrics(model),
        data=data_link(data) if data else None,
        run=run_link(run) if run else None,
        code_version=model.code_version,
        registered_at=model.registered_at,
    )


def _promotion(model: ModelVersion, related: _Related) -> str:
    """The result of the promotion checks, without loading the model's files."""
    if model.kind is not ModelKind.CLASSIFIER or related.active_sha256 is None:
        return ""
    comparison = deciding_comparison(model, related.comparisons)
    case = PromotionCase(
        model,
        related.active_sha256,
        related.active,
        comparison,
        trial_reasons=trial_reasons(related.session, model),
        is_trial_mode=related.settings.trial_mode,
        was_rolled_back=was_rolled_back(related.session, related.settings, model),
    )
    blockers = promotion_blockers(case)
    if any(not blocker.can_be_overridden for blocker in blockers):
        return msg("for trial mode only")
    if any(blocker.check is PromotionCheck.COMPARED for blocker in blockers):
        return msg("not compared")
    return msg("promotion checks failed") if blockers else msg("promotion checks passed")


@dataclass(frozen=True, slots=True)
class ActivationView:
    """A past activation of a classifier."""

    at: datetime
    by: str
    model: PageLink
    override: str


def list_activations(session: Session) -> list[ActivationView]:
    """The latest activations, newest first."""
    query = (
        select(Activation, ModelVersion)
        .join(ModelVersion, ModelVersion.sha256 == Activation.model_sha256)
        .order_by(Activation.id.desc())
        .limit(_MAX_ACTIVATIONS)
    )
    return [
        ActivationView(
            at=row.at,
            by=row.by.removeprefix("user:"),
            model=model_link(model),
            override=row.override or "",
        )
        for row, model in session.execute(query)
    ]


def list_load_faults(session: Session, last: Activation | None) -> list[str]:
    """Why servers could not load the active classifier since its activation, each reason once."""
    if last is None:
        return []
    query = select(AuditEvent).where(
        AuditEvent.action == "model.not-loaded",
        AuditEvent.subject == last.model_sha256,
        AuditEvent.at >= last.at,
    )
    events = session.scalars(query.order_by(AuditEvent.at))
    return list(dict.fromkeys(str(event.detail["reason"]) for event in events))
