"""Views of runs for the console: names, numbers as text, links."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlencode

from fastapi import Query
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.database import now
from app.core.language import number
from app.core.links import PageLink
from app.core.pagination import Page, paginate
from app.datasets.links import data_link
from app.datasets.tables import DataVersion
from app.registry.links import model_link
from app.registry.tables import ModelVersion
from app.runs.data_checks import LABELS_OPTION
from app.runs.forms import number_text
from app.runs.handlers.base import InputType
from app.runs.labels import split_tags
from app.runs.links import run_url
from app.runs.options import names_in
from app.runs.presets import preset_of
from app.runs.progress import RunProgress
from app.runs.queue import STATUS_NAMES
from app.runs.run_types import RUN_TYPES, run_type_title
from app.runs.tables import Run, RunStatus
from ml.labels import label_name
from ml.option_fields import option_title
from ml.reporting.format import interval
from ml.texts import Number, msg

PAGE_SIZE = 30
RunOrder = Literal["newest", "oldest", "finished"]
ORDER_NAMES: Mapping[RunOrder, str] = {
    "newest": msg("Newest first"),
    "oldest": msg("Oldest first"),
    "finished": msg("Finished last, first"),
}
_DIGEST_LENGTH = 64
Made = TypeVar("Made", ModelVersion, DataVersion)


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list shows, and in which order.

    Attributes:
        status: of the runs; None: any.
        run_type: of the runs; empty: any.
        text: a part of the name, a tag, the notes, or who started it; capitals do not count.
        order: newest or oldest first, or those that finished last first.
        archived: the archived runs, in place of the others.
    """

    status: RunStatus | None = None
    run_type: str = ""
    text: str = ""
    order: RunOrder = "newest"
    archived: bool = False

    @classmethod
    def of(
        cls,
        status: Annotated[str, Query(max_length=20)] = "",
        kind: Annotated[str, Query(max_length=50)] = "",
        text: Annotated[str, Query(max_length=100)] = "",
        order: RunOrder = "newest",
        archived: bool = False,
    ) -> "RunFilter":
        """The filter in an address."""
        wanted = RunStatus(status) if status in set(RunStatus) else None
        return cls(wanted, kind, text, order, archived)

    @property
    def query(self) -> str:
        """The filter as an address has it; empty where it shows all runs."""
        given = {
            "status": self.status.value if self.status else "",
            "kind": self.run_type,
            "text": self.text,
            "order": self.order if self.order != "newest" else "",
            "archived": "true" if self.archived else "",
        }
        return urlencode({name: value for name, value in given.items() if value})


def runs_page(
    session: Session,
    chosen: RunFilter,
    cursor: str | None,
) -> Page[Run]:
    """One page of runs.

    Args:
        session: the database.
        chosen: which runs, and in which order.
        cursor: of the page before.

    Raises:
        NotFound: the cursor is not valid.
    """
    query = select(Run)
    if chosen.status:
        query = query.where(Run.status == chosen.status)
    if chosen.run_type:
        query = query.where(Run.run_type == chosen.run_type)
    if text := chosen.text.replace("\0", "").strip():
        columns = (Run.name, Run.tags, Run.notes, Run.requested_by)
        query = query.where(or_(*(each.icontains(text, autoescape=True) for each in columns)))
    is_archived = Run.archived_at.is_not(None)
    query = query.where(is_archived if chosen.archived else ~is_archived)
    if chosen.order == "finished":
        query = query.where(Run.finished_at.is_not(None))
        return paginate(session, query, (Run.finished_at, Run.id), cursor, PAGE_SIZE)
    oldest_first = chosen.order == "oldest"
    key = (Run.created_at, Run.id)
    return paginate(session, query, key, cursor, PAGE_SIZE, ascending=oldest_first)


def duration(seconds: float) -> str:
    """5000 -> "1 h 23 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return msg("%(days)s days %(hours)s h", days=hours // 24, hours=hours % 24)


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run.

    Attributes:
        text: "200 of 1,000".
        percent: of a bar; None where the total is unknown.
        eta: time remaining; empty where unknown or ended.
        speed: images per second; empty where unknown.

    """

    text: str
    percent: float | None
    eta: str
    speed: str

    @classmethod
    def of(cls, run: Run) -> Self | None:
        """Of a row; None before the first step."""
        known = RunProgress.model_validate(run.progress)
        if known.step is None:
            return None
        step, of, eta, speed = known.step, known.of, known.eta_s, known.images_per_second
        is_live = run.status is RunStatus.RUNNING
        return cls(
            text=msg("%(step)s of %(of)s", step=Number(step), of=Number(of))
            if of
            else number(step),
            percent=round(min(100.0, 100 * step / of), 1) if of else None,
            # After the last step the program still measures and exports.
            eta=duration(eta) if is_live and eta is not None and not known.is_complete else "",
            speed=f"{speed:,.0f}" if is_live and speed is not None else "",
        )


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in a list."""

    id: uuid.UUID
    url: str
    title: str
    name: str
    tags: list[str]
    preset: str
    took: str
    status: RunStatus
    status_name: str
    requested_by: str
    queue: str
    priority: int
    created_at: datetime
    data_sha256: str
    progress: Progress | None
    stopping: bool
    is_archived: bool
    reason: str

    @classmethod
    def of(cls, run: Run) -> Self:
        """Summarise a row."""
        return cls(
            id=run.id,
            url=run_url(run.id),
            title=run_type_title(run.run_type),
            name=run.name or run_type_title(run.run_type),
            tags=split_tags(run.tags),
            preset=preset_of(run),
            took=took(run) or _so_far(run),
            status=run.status,
            status_name=STATUS_NAMES[run.status],
            requested_by=run.requested_by.removeprefix("user:"),
            queue=run.queue.upper(),
            priority=run.priority,
            created_at=run.created_at,
            data_sha256=run.data_sha256 or "",
            progress=Progress.of(run),
            stopping=run.status is RunStatus.RUNNING and run.cancel_requested_at is not None,
            is_archived=run.archived_at is not None,
            reason=(run.reason or "") if run.status is RunStatus.FAILED else "",
        )


def _so_far(run: Run) -> str:
    """Time since a running run's first attempt; empty for others."""
    if run.status is not RunStatus.RUNNING or run.started_at is None:
        return ""
    return msg("%(time)s so far", time=duration((now() - run.started_at).total_seconds()))


def data_of_each(session: Session, found: Sequence[Run]) -> dict[str, PageLink]:
    """The data sets that runs work on, by SHA-256."""
    digests = {run.data_sha256 for run in found if run.data_sha256}
    query = select(DataVersion).where(DataVersion.sha256.in_(digests))
    return {each.sha256: data_link(each) for each in session.scalars(query)}


def took(run: Run) -> str:
    """Time from a run's first attempt to its end; empty before that."""
    if run.started_at is None or run.finished_at is None:
        return ""
    return duration((run.finished_at - run.started_at).total_seconds())


def registered_by(session: Session, run: Run) -> list[PageLink]:
    """The models and data set versions that a run has registered or names in its result."""
    return registered_by_each(session, [run])[run.id]


def registered_by_each(session: Session, found: Sequence[Run]) -> dict[uuid.UUID, list[PageLink]]:
    """The same for several runs, with two queries in all."""
    with_result = [run for run in found if run.result]
    named = {run.id: _digests(run) for run in with_result}
    digests = set().union(*named.values())
    models = _made_by(session, ModelVersion, [*named], digests)
    data = _made_by(session, DataVersion, [*named], digests)
    links: dict[uuid.UUID, list[PageLink]] = {run.id: [] for run in found}
    for run_id, own in named.items():
        links[run_id] += [
            model_link(each) for each in models if each.run_id == run_id or each.sha256 in own
        ]
        links[run_id] += [
            data_link(each) for each in data if each.run_id == run_id or each.sha256 in own
        ]
    return links


def _made_by(
    session: Session, table: type[Made], run_ids: Sequence[uuid.UUID], digests: set[str]
) -> list[Made]:
    if not run_ids:
        return []
    query = select(table).where(or_(table.run_id.in_(run_ids), table.sha256.in_(digests)))
    return list(session.scalars(query.order_by(table.sha256)))


def _digests(run: Run) -> set[str]:
    return {value for value in _texts(run.result) if len(value) == _DIGEST_LENGTH}


def result_lines(run: Run) -> list[tuple[str, str]]:
    """The metrics and sentences of a run's result; what it registered is shown as links."""
    return [
        (option_title(name), text)
        for name, value in run.result.items()
        if (text := _result_text(value))
    ]


def _result_text(value: Any) -> str:
    match value:
        case bool():
            return msg("yes") if value else msg("no")
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.3g}"
        case str():
            # Digests and ids are shown as links.
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


@dataclass(frozen=True, slots=True)
class OptionText:
    """An option of a run."""

    name: str
    value: str
    links: list[PageLink]


def option_texts(session: Session, run: Run) -> list[OptionText]:
    """All options of a run: its inputs, then the others."""
    run_type = RUN_TYPES.get(run.run_type)
    inputs = {each.name: each for each in run_type.inputs} if run_type else {}
    given = sorted(run.options.items(), key=lambda item: item[0] not in inputs)
    return [
        OptionText(
            name=run_type.title_of(name) if run_type else option_title(name),
            value=_classes_text(value) if name == LABELS_OPTION else _option_value(value),
            links=_input_links(session, inputs[name].type, value) if name in inputs else [],
        )
        for name, value in given
    ]


def _classes_text(value: Any) -> str:
    """The classes of an option by their names: "COVID-19, Normal"."""
    return ", ".join(label_name(label.strip()) for label in str(value).split(",")) or "none"


def _option_value(value: Any) -> str:
    match value:
        case None | "" | []:
            return "none"
        case bool():
            return msg("yes") if value else msg("no")
        case float():
            return number_text(value)
        case list():
            return ", ".join(str(each) for each in value)
    return str(value)


def _input_links(session: Session, input_type: InputType, value: Any) -> list[PageLink]:
    """What an input names; empty if it is a folder's path, or no longer registered."""
    links = []
    for name in names_in(value):
        if input_type is InputType.RUN:
            links.append(PageLink("run", name[:8], run_url(uuid.UUID(name))))
        elif input_type in (InputType.CLASSIFIER, InputType.GENERATOR):
            if model := session.get(ModelVersion, name):
                links.append(model_link(model))
        elif version := session.get(DataVersion, name):
            links.append(data_link(version))
    return links


def events_of(session: Session, run: Run) -> Sequence[AuditEvent]:
    """The audit log of a run, in order."""
    of_run = select(AuditEvent).where(AuditEvent.subject == str(run.id))
    return session.scalars(of_run.order_by(AuditEvent.at)).all()
