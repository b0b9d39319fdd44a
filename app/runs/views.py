"""What the console shows of runs: names, numbers as text, links."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.pagination import Page, paginate
from app.datasets.tables import DataVersion
from app.registry.tables import ModelVersion
from app.runs.forms import number_text
from app.runs.kinds import KINDS, Ref
from app.runs.tables import Run, RunStatus
from ml.option_fields import option_title
from ml.reporting.format import interval

PAGE_SIZE = 30
STATUS_NAMES: dict[RunStatus, str] = {
    RunStatus.QUEUED: "waiting",
    RunStatus.RUNNING: "running",
    RunStatus.SUCCEEDED: "done",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
}


def runs_page(
    session: Session, *, status: RunStatus | None, kind: str | None, cursor: str | None
) -> Page[Run]:
    """One page of runs, newest first.

    Raises:
        NotFound: the cursor is not valid.
    """
    query = select(Run)
    if status:
        query = query.where(Run.status == status)
    if kind:
        query = query.where(Run.kind == kind)
    return paginate(session, query, (Run.created_at, Run.id), cursor, PAGE_SIZE)


def kind_title(kind: str) -> str:
    """The name of a kind; of one that only another version knows, its word."""
    return KINDS[kind].title if kind in KINDS else kind


def duration(seconds: float) -> str:
    """5000 -> "1 h 23 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        text: "step 200 of 1,000".
        percent: of a bar; None where nobody knows of how many.
        eta: how long it will take still, empty where unknown or over.
        speed: images per second, empty where unknown.

    """

    text: str
    percent: float | None
    eta: str
    speed: str

    @classmethod
    def of(cls, run: Run) -> Self | None:
        """Of a row; None before the first step."""
        known = run.progress
        if known.get("step") is None:
            return None
        step, of = float(known["step"]), known.get("of")
        eta, speed = known.get("eta_s"), (known.get("metrics") or {}).get("images_per_second")
        is_live = run.status is RunStatus.RUNNING
        return cls(
            text=f"{step:,.0f} of {of:,.0f}" if of else f"{step:,.0f}",
            percent=round(min(100.0, 100 * step / of), 1) if of else None,
            eta=duration(eta) if is_live and eta is not None else "",
            speed=f"{speed:,.0f}" if is_live and speed is not None else "",
        )


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in a list."""

    id: uuid.UUID
    url: str
    title: str
    status: RunStatus
    status_name: str
    requested_by: str
    queue: str
    priority: int
    created_at: datetime
    progress: Progress | None
    stopping: bool
    reason: str

    @classmethod
    def of(cls, run: Run) -> Self:
        """Summarise a row."""
        return cls(
            id=run.id,
            url=f"/admin/runs/{run.id}",
            title=kind_title(run.kind),
            status=run.status,
            status_name=STATUS_NAMES[run.status],
            requested_by=run.requested_by.removeprefix("user:"),
            queue=run.queue.upper(),
            priority=run.priority,
            created_at=run.created_at,
            progress=Progress.of(run),
            stopping=run.status is RunStatus.RUNNING and run.cancel_requested_at is not None,
            reason=(run.reason or "") if run.status is RunStatus.FAILED else "",
        )


@dataclass(frozen=True, slots=True)
class Link:
    """Something registered: what it is, its name, where it is shown."""

    what: str
    name: str
    url: str


def took(run: Run) -> str:
    """How long a run took from its first attempt to its end; empty before."""
    if run.started_at is None or run.finished_at is None:
        return ""
    return duration((run.finished_at - run.started_at).total_seconds())


def registered_by(session: Session, run: Run) -> list[Link]:
    """The models and data versions that came of a run."""
    if not run.result:
        return []
    digests = [value for value in _texts(run.result) if len(value) == 64]
    models = select(ModelVersion).where(
        or_(ModelVersion.run_id == run.id, ModelVersion.sha256.in_(digests))
    )
    data = select(DataVersion).where(
        or_(DataVersion.run_id == run.id, DataVersion.sha256.in_(digests))
    )
    return [
        *(model_link(model) for model in session.scalars(models)),
        *(data_link(version) for version in session.scalars(data)),
    ]


def result_lines(run: Run) -> list[tuple[str, str]]:
    """What came of a run in metrics and words; what was registered is told by links."""
    return [
        (option_title(name), text)
        for name, value in run.result.items()
        if (text := _result_text(value))
    ]


def _result_text(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.3g}"
        case str():
            # Digests and ids name what is linked.
            return "" if _is_key(value) else value
        case {"value": _, "low": _, "high": _}:
            return "{} ({})".format(*interval(value))
        case list() if value and all(isinstance(each, str) for each in value):
            return "; ".join(value)
    return ""


def _is_key(text: str) -> bool:
    return len(text.replace("-", "")) in (32, 64) and set(text) <= set("0123456789abcdef-")


def _texts(value: Any) -> list[str]:
    """All texts within a value of JSON."""
    match value:
        case str():
            return [value]
        case dict():
            return [text for inner in value.values() for text in _texts(inner)]
        case list():
            return [text for inner in value for text in _texts(inner)]
    return []


def model_link(model: ModelVersion) -> Link:
    """Where a model is shown."""
    return Link(model.kind.value, model.version, f"/admin/models/{model.sha256}")


def data_link(version: DataVersion) -> Link:
    """Where a data version is shown."""
    return Link("data set", version.name, f"/admin/data/{version.sha256}")


@dataclass(frozen=True, slots=True)
class OptionText:
    """An option of a run as it was given."""

    name: str
    value: str
    links: list[Link]


def option_texts(session: Session, run: Run) -> list[OptionText]:
    """All options of a run: what it was given to work on, then how."""
    kind = KINDS.get(run.kind)
    inputs = {each.name: each for each in kind.inputs} if kind else {}
    told = sorted(run.options.items(), key=lambda item: item[0] not in inputs)
    return [
        OptionText(
            name=option_title(name),
            value=_option_value(value),
            links=_input_links(session, inputs[name].ref, value) if name in inputs else [],
        )
        for name, value in told
    ]


def _option_value(value: Any) -> str:
    match value:
        case None | "" | []:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return number_text(value)
        case list():
            return ", ".join(str(each) for each in value)
    return str(value)


def _input_links(session: Session, ref: Ref, value: Any) -> list[Link]:
    """What an input names; empty where it is a folder's path, or not there any more."""
    links = []
    for name in _texts(value):
        if ref is Ref.RUN:
            links.append(Link("run", name[:8], f"/admin/runs/{name}"))
        elif ref in (Ref.CLASSIFIER, Ref.GENERATOR):
            if model := session.get(ModelVersion, name):
                links.append(model_link(model))
        elif version := session.get(DataVersion, name):
            links.append(data_link(version))
    return links


def events_of(session: Session, run: Run) -> Sequence[AuditEvent]:
    """What people did with a run, in order."""
    of_run = select(AuditEvent).where(AuditEvent.subject == str(run.id))
    return session.scalars(of_run.order_by(AuditEvent.at)).all()
