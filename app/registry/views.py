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
from app.registry.activation import gate_faults
from app.registry.card_views import generator_figures
from app.registry.comparisons import (
    NOT_COMPARED,
    comparison_faults,
    list_comparisons,
    standing_faults,
)
from app.registry.queries import in_service, lineage, list_models
from app.registry.tables import Activation, Comparison, ModelKind, ModelVersion
from app.runs.tables import Run
from app.runs.views import Link, kind_title, model_link
from app.settings import Settings
from ml.reporting.format import interval

_MOST_ACTIVATIONS = 20


class Standing(StrEnum):
    """Where a model stands."""

    IN_SERVICE = "in service"
    REGISTERED = "registered"
    RETIRED = "retired"
    CARD_ONLY = "only its card is here"


def standing_of(model: ModelVersion, present: str | None) -> Standing:
    """Where a model stands, given the classifier that is in service."""
    if model.sha256 == present:
        return Standing.IN_SERVICE
    if model.retired_at:
        return Standing.RETIRED
    return Standing.REGISTERED if model.folder else Standing.CARD_ONLY


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its interval, as text; an interval of no letters where it has none."""

    name: str
    value: str
    interval: str


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A model in a list.

    Attributes:
        gate: of a classifier that could be put in service: how it compares with the present one.
        figures: those that the head of the list names.
    """

    url: str
    version: str
    sha256: str
    standing: Standing
    gate: str
    figures: list[Figure]
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
            gate=_gate(session, model, present) if standing is Standing.REGISTERED else "",
            figures=_figures(model),
            data=data_link(data) if data else None,
            run=run_link(run) if run else None,
            code_version=model.card["code_version"],
            registered_at=model.registered_at,
        )


def _gate(session: Session, model: ModelVersion, present: str | None) -> str:
    if model.kind is not ModelKind.CLASSIFIER or present is None:
        return ""
    faults = standing_faults(session, model, present)
    if faults == [NOT_COMPARED]:
        return "not compared"
    return "gate shut" if faults else "gate open"


def _figures(model: ModelVersion) -> list[Figure]:
    if model.kind is ModelKind.GENERATOR:
        return [Figure(row.name, row.value, "") for row in generator_figures(model.card)]
    named = {"Accuracy": "accuracy", "Macro AUROC": "macro_auroc"}
    figures = model.card["figures"]
    return [Figure(name, *interval(figures[key])) for name, key in named.items()]


def data_link(version: DataVersion) -> Link:
    """Where a data version is shown, and what it must not be taken for films of people without."""
    what = mark_of(version) or "data set"
    return Link(what, version.name, f"/admin/data/{version.sha256}")


def run_link(run: Run) -> Link:
    """Where a run is shown."""
    return Link(
        "run", f"{kind_title(run.kind)}, {run.created_at:%Y-%m-%d}", f"/admin/runs/{run.id}"
    )


def summaries(session: Session, settings: Settings, kind: ModelKind) -> list[ModelSummary]:
    """All models of a kind, newest first, the one in service before all others."""
    present = in_service(session, settings)
    found = [
        ModelSummary.of(session, model, present)
        for model in list_models(session, kind, all_of_them=True)
    ]
    places = list(Standing)
    return sorted(found, key=lambda one: places.index(one.standing))


# --- in service ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ActivationView:
    """A classifier was put in service."""

    at: datetime
    by: str
    model: Link
    override: str


def activations(session: Session) -> list[ActivationView]:
    """What was put in service, newest first."""
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
        faults: why it does not open the gates for its candidate; none where it does.
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
        gates: why it should not be put in service; None where nobody would.
        lineage: what it came of and what came of it: a name and links, without empty ones.
    """

    url: str
    version: str
    sha256: str
    kind: ModelKind
    standing: Standing
    registered_at: datetime
    retired_at: datetime | None
    code_version: str
    figures: list[Figure]
    gates: list[str] | None
    comparisons: list[ComparisonSummary]
    lineage: list[tuple[str, list[Link]]]
    unknown_parents: list[str]
    has_files: bool
    data_sha256: str

    @classmethod
    def of(cls, session: Session, settings: Settings, model: ModelVersion) -> Self:
        """Show a row, with what else is known of it."""
        standing = standing_of(model, in_service(session, settings))
        is_candidate = model.kind is ModelKind.CLASSIFIER and standing is Standing.REGISTERED
        found = lineage(session, model)
        return cls(
            url=f"/admin/models/{model.sha256}",
            version=model.version,
            sha256=model.sha256,
            kind=model.kind,
            standing=standing,
            registered_at=model.registered_at,
            retired_at=model.retired_at,
            code_version=model.card["code_version"],
            figures=_figures(model),
            gates=gate_faults(session, settings, model) if is_candidate else None,
            comparisons=[
                _compared(session, model, row) for row in list_comparisons(session, model)
            ],
            lineage=[
                (name, links)
                for name, links in (
                    ("Made by", [run_link(found.run)] if found.run else []),
                    ("Learned from", [data_link(found.data)] if found.data else []),
                    ("Synthetic films of", _links(found.parents.values())),
                    ("Its films", [data_link(version) for version in found.synthetic]),
                    ("Its films taught", _links(found.children)),
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
