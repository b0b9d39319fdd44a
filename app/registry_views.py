"""What the console shows of models: where each stands, what it came of, how two compare."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.data_views import mark_of
from app.datasets import data_folder
from app.model_views import generator_figures
from app.models import (
    Activation,
    AuditEvent,
    Comparison,
    DataVersion,
    ModelKind,
    ModelVersion,
    Run,
)
from app.registry import (
    NOT_COMPARED,
    comparison_faults,
    gate_faults,
    in_service,
    lineage,
    list_comparisons,
    list_models,
    standing_faults,
)
from app.run_views import Link, kind_title, model_link
from app.settings import Settings
from app.views import decision_name
from ml.figures import interval, three
from ml.labels import label_name

FILMS_PER_PAGE = 24
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


# --- two classifiers -----------------------------------------------------------------------------


class Change(StrEnum):
    """What became of the answer to a film."""

    BETTER = "better"  # the candidate answers rightly what the reference did not
    WORSE = "worse"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Beside:
    """A figure of both classifiers; the difference where it was drawn in pairs."""

    name: str
    candidate: str
    reference: str
    difference: str
    interval: str


@dataclass(frozen=True, slots=True)
class ChangedFilm:
    """A film that the two answer differently."""

    number: int  # its place in the comparison
    image: str
    truth: str
    candidate: str
    reference: str
    candidate_decision: str
    reference_decision: str
    is_there: bool  # whether the data set still has it

    @classmethod
    def of(cls, number: int, one: Mapping[str, Any], folder: Path | None) -> Self:
        """Show an entry of `changed`; `folder` is that of the data set, where it is registered."""
        return cls(
            number=number,
            image=one["image"],
            truth=label_name(one["label"]),
            candidate=_answer(one["candidate"]),
            reference=_answer(one["reference"]),
            candidate_decision=one["candidate"]["decision"],
            reference_decision=one["reference"]["decision"],
            is_there=folder is not None and (folder / one["image"]).is_file(),
        )


def _change(one: Mapping[str, Any]) -> Change:
    """What became of the answer to a film."""
    now_right, was_right = (
        one[side]["decision"] == one["label"] for side in ("candidate", "reference")
    )
    if now_right == was_right:
        return Change.OTHER
    return Change.BETTER if now_right else Change.WORSE


def _answer(side: Mapping[str, Any]) -> str:
    probability = f"{100 * side['probability']:.0f} %"
    if side["decision"] == side["label"]:
        return f"{label_name(side['label'])}, {probability}"
    return f"{decision_name(side['decision'])}; {label_name(side['label'])} at {probability}"


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """A comparison on its own page.

    Attributes:
        faults: why it does not open the gates for its candidate; none where it does.
        card_reproduced: None where the films are not those of the card.
        counts: films whose answer changed, by what became of it.
        page: of the films shown, from 1.
    """

    id: uuid.UUID
    url: str
    at: datetime
    candidate: Link
    reference: Link
    faults: list[str]
    card_reproduced: bool | None
    films: int
    patients: int
    figures: list[Beside]
    per_class: list[Beside]
    data: Link | None
    run: Link | None
    counts: dict[str, int]
    shown: list[ChangedFilm]
    page: int
    pages: int

    @classmethod
    def of(
        cls, session: Session, settings: Settings, row: Comparison, which: str, page: int
    ) -> Self:
        """Show a row, and one page of the films of one kind of change, or of all."""
        found = row.figures
        candidate, reference = (found[side]["figures"] for side in ("candidate", "reference"))
        changes = [_change(one) for one in found["changed"]]
        wanted = [number for number, change in enumerate(changes) if which in ("", change)]
        pages = max(1, -(-len(wanted) // FILMS_PER_PAGE))
        page = min(max(page, 1), pages)
        shown = wanted[(page - 1) * FILMS_PER_PAGE : page * FILMS_PER_PAGE]
        data = session.get(DataVersion, row.data_sha256) if row.data_sha256 else None
        folder = data_folder(settings, data) if data else None
        run = session.get(Run, row.run_id) if row.run_id else None
        model = session.get_one(ModelVersion, row.candidate_sha256)
        return cls(
            id=row.id,
            url=comparison_url(row),
            at=row.created_at,
            candidate=model_link(model),
            reference=model_link(session.get_one(ModelVersion, row.reference_sha256)),
            faults=comparison_faults(session, model, row),
            card_reproduced=found.get("card_reproduced"),
            films=found["films"],
            patients=found["patients"],
            figures=_beside(candidate, reference, found["differences"]),
            per_class=_classes_beside(candidate, reference),
            data=data_link(data) if data else None,
            run=run_link(run) if run else None,
            counts={change.value: changes.count(change) for change in Change},
            shown=[ChangedFilm.of(number, found["changed"][number], folder) for number in shown],
            page=page,
            pages=pages,
        )


def _beside(
    candidate: Mapping[str, Any], reference: Mapping[str, Any], differences: Mapping[str, Any]
) -> list[Beside]:
    rows = []
    for key, name in (("accuracy", "Accuracy"), ("macro_auroc", "Macro AUROC")):
        ours, theirs = ("{} ({})".format(*interval(side[key])) for side in (candidate, reference))
        drawn = differences[key]
        bounds = f"{_signed(drawn['low'])} to {_signed(drawn['high'])}"
        rows.append(Beside(name, ours, theirs, _signed(drawn["value"]), bounds))
    return rows + [
        _plainly_beside(name, candidate, reference, keys)
        for name, keys in (
            ("Calibration error", ("calibration_error",)),
            ("Share of films answered", ("selective", "coverage")),
            ("Accuracy of those", ("selective", "accuracy_when_answering")),
        )
    ]


def _classes_beside(candidate: Mapping[str, Any], reference: Mapping[str, Any]) -> list[Beside]:
    return [
        _plainly_beside(
            f"{label_name(label)}, {key}", candidate, reference, ("per_class", label, key)
        )
        for label in candidate["per_class"]
        for key in ("recall", "precision")
    ]


def _plainly_beside(
    name: str, candidate: Mapping[str, Any], reference: Mapping[str, Any], keys: Sequence[str]
) -> Beside:
    """A figure of which no interval was drawn."""
    ours, theirs = _at(candidate, keys), _at(reference, keys)
    difference = "" if ours is None or theirs is None else _signed(ours - theirs)
    return Beside(name, three(ours), three(theirs), difference, "")


def _at(figures: Any, keys: Sequence[str]) -> float | None:
    """The figure that keys lead to; None where it is not defined."""
    for key in keys:
        figures = figures[key]
    return None if figures is None else float(figures)


def _signed(value: float | None) -> str:
    """With the sign that people write, and none where three decimals leave nothing."""
    if value is None:
        return "not defined"
    text = f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
    return "0.000" if text[1:] == "0.000" else text
