"""What the console shows of models: where each stands, what it came of, how two compare."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.datasets.tables import DataVersion
from app.datasets.views import mark_of
from app.registry.activation import promotion_blockers
from app.registry.card_views import generator_metrics
from app.registry.comparisons import (
    NOT_COMPARED,
    comparison_faults,
    list_comparisons,
    standing_faults,
)
from app.registry.queries import lineage, list_models, serving_sha256
from app.registry.tables import Activation, Comparison, ModelKind, ModelVersion
from app.runs.run_types import run_type_title
from app.runs.tables import Run
from app.runs.views import Link, model_link
from app.settings import Settings
from ml.reporting.format import interval

_MOST_ACTIVATIONS = 20


class Standing(StrEnum):
    """Where a model stands."""

    IN_SERVICE = "active"
    REGISTERED = "registered"
    RETIRED = "archived"
    CARD_ONLY = "only its card is here"


def standing_of(model: ModelVersion, present: str | None) -> Standing:
    """Where a model stands, given the classifier that is active."""
    if model.sha256 == present:
        return Standing.IN_SERVICE
    if model.archived_at:
        return Standing.RETIRED
    return Standing.REGISTERED if model.folder else Standing.CARD_ONLY


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its interval, as text; an interval of no letters where it has none."""

    name: str
    value: str
    interval: str


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A model in a list.

    Attributes:
        promotion check: of a classifier that could be activated: how it compares with the present
        one.
        metrics: those that the head of the list names.
    """

    url: str
    version: str
    sha256: str
    standing: Standing
    promotion_check: str
    metrics: list[Metric]
    data: Link | None
    run: Link | None
    code_version: str
    registered_at: datetime

    @classmethod
    def of(cls, session: Session, model: ModelVersion, present: str | None) -> Self:
        """Summarise a row."""
        standing = standing_of(model, present)
        data = session.get(DataVersion, model.data_sha256) if model.data_sha256 else None
        run = session.get(Run, model.run_id) if model.run_id else None
        return cls(
            url=f"/admin/models/{model.sha256}",
            version=model.version,
            sha256=model.sha256,
            standing=standing,
            promotion_check=_promotion_check(session, model, present)
            if standing is Standing.REGISTERED
            else "",
            metrics=_metrics(model),
            data=data_link(data) if data else None,
            run=run_link(run) if run else None,
            code_version=model.card["code_version"],
            registered_at=model.registered_at,
        )


def _promotion_check(session: Session, model: ModelVersion, present: str | None) -> str:
    if model.kind is not ModelKind.CLASSIFIER or present is None:
        return ""
    faults = standing_faults(session, model, present)
    if faults == [NOT_COMPARED]:
        return "not compared"
    return "promotion check shut" if faults else "promotion check open"


def _metrics(model: ModelVersion) -> list[Metric]:
    if model.kind is ModelKind.GENERATOR:
        return [Metric(row.name, row.value, "") for row in generator_metrics(model.generator_card)]
    named = {"Accuracy": "accuracy", "Macro AUROC": "macro_auroc"}
    metrics = model.card["metrics"]
    return [Metric(name, *interval(metrics[key])) for name, key in named.items()]


def data_link(version: DataVersion) -> Link:
    """Where a data version is shown, and what it must not be taken for images of people without."""
    what = mark_of(version) or "data set"
    return Link(what, version.name, f"/admin/data/{version.sha256}")


def run_link(run: Run) -> Link:
    """Where a run is shown."""
    return Link(
        "run", f"{run_type_title(run.run_type)}, {run.created_at:%Y-%m-%d}", f"/admin/runs/{run.id}"
    )


def summaries(session: Session, settings: Settings, kind: ModelKind) -> list[ModelSummary]:
    """All models of a kind, newest first, the active one before all others."""
    present = serving_sha256(session, settings)
    found = [
        ModelSummary.of(session, model, present)
        for model in list_models(session, kind, all_of_them=True)
    ]
    places = list(Standing)
    return sorted(found, key=lambda one: places.index(one.standing))


# --- active ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ActivationView:
    """A classifier was activated."""

    at: datetime
    by: str
    model: Link
    override: str


def activations(session: Session) -> list[ActivationView]:
    """What was activated, newest first."""
    rows = session.scalars(
        select(Activation).order_by(Activation.id.desc()).limit(_MOST_ACTIVATIONS)
    )
    return [
        ActivationView(
            at=row.at,
            by=row.by.removeprefix("user:"),
            model=model_link(session.get_one(ModelVersion, row.model_sha256)),
            override=row.override or "",
        )
        for row in rows
    ]


def load_faults(session: Session, last: Activation | None) -> list[str]:
    """What servers could not load since the last activation; the newest of each reason."""
    if last is None:
        return []
    told = select(AuditEvent).where(
        AuditEvent.action == "model.not-loaded",
        AuditEvent.subject == last.model_sha256,
        AuditEvent.at >= last.at,
    )
    events = session.scalars(told.order_by(AuditEvent.at))
    return list({event.detail["reason"]: f"{event.at:%H:%M:%S} UTC" for event in events})


# --- one model -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ComparisonSummary:
    """A comparison in a list, seen from one of its two classifiers.

    Attributes:
        faults: why it does not open the promotion checks for its candidate; none where it does.
    """

    url: str
    at: datetime
    other: Link
    is_candidate: bool
    faults: list[str]
    data: Link | None


@dataclass(frozen=True, slots=True)
class RegisteredView:
    """A model on its own page of the console.

    Attributes:
        promotion checks: why it should not be activated; None where nobody would.
        lineage: what it came of and what came of it: a name and links, without empty ones.
    """

    url: str
    version: str
    sha256: str
    kind: ModelKind
    standing: Standing
    registered_at: datetime
    archived_at: datetime | None
    code_version: str
    metrics: list[Metric]
    promotion_checks: list[str] | None
    comparisons: list[ComparisonSummary]
    lineage: list[tuple[str, list[Link]]]
    unknown_parents: list[str]
    has_files: bool
    data_sha256: str

    @classmethod
    def of(cls, session: Session, settings: Settings, model: ModelVersion) -> Self:
        """Show a row, with what else is known of it."""
        standing = standing_of(model, serving_sha256(session, settings))
        is_candidate = model.kind is ModelKind.CLASSIFIER and standing is Standing.REGISTERED
        found = lineage(session, model)
        return cls(
            url=f"/admin/models/{model.sha256}",
            version=model.version,
            sha256=model.sha256,
            kind=model.kind,
            standing=standing,
            registered_at=model.registered_at,
            archived_at=model.archived_at,
            code_version=model.card["code_version"],
            metrics=_metrics(model),
            promotion_checks=promotion_blockers(session, settings, model) if is_candidate else None,
            comparisons=[
                _compared(session, model, row) for row in list_comparisons(session, model)
            ],
            lineage=[
                (name, links)
                for name, links in (
                    ("Made by", [run_link(found.run)] if found.run else []),
                    ("Learned from", [data_link(found.data)] if found.data else []),
                    ("Synthetic images of", _links(found.parents.values())),
                    ("Its images", [data_link(version) for version in found.synthetic]),
                    ("Its images taught", _links(found.children)),
                )
                if links
            ],
            unknown_parents=[sha256 for sha256, one in found.parents.items() if one is None],
            has_files=model.folder is not None,
            data_sha256=model.data_sha256 or "",
        )


def _links(models: Any) -> list[Link]:
    return [model_link(model) for model in models if model is not None]


def _compared(session: Session, model: ModelVersion, row: Comparison) -> ComparisonSummary:
    is_candidate = row.candidate_sha256 == model.sha256
    other = session.get_one(
        ModelVersion, row.reference_sha256 if is_candidate else row.candidate_sha256
    )
    data = session.get(DataVersion, row.data_sha256) if row.data_sha256 else None
    return ComparisonSummary(
        url=comparison_url(row),
        at=row.created_at,
        other=model_link(other),
        is_candidate=is_candidate,
        faults=comparison_faults(session, model if is_candidate else other, row),
        data=data_link(data) if data else None,
    )


def comparison_url(row: Comparison) -> str:
    """Where a comparison is shown."""
    return f"/admin/models/{row.candidate_sha256}/compare/{row.id}"
