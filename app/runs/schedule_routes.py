"""The console's room of schedules: runs that are started again and again."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.dependencies import ActingAdmin, Admin
from app.core.database import now
from app.core.errors import BadForm
from app.core.templating import page
from app.runs import forms
from app.runs.heartbeat import workers_alive
from app.runs.kinds import KINDS
from app.runs.routes import NamedKind, PostedForm, form_of
from app.runs.schedules import (
    EVERY_DAY,
    create_schedule,
    delete_schedule,
    disable,
    enable,
    find_schedule,
    list_schedules,
    next_slot,
)
from app.runs.tables import Run, RunQueue, Schedule
from app.runs.views import RunSummary, kind_title
from app.services import CurrentServices, CurrentSession
from app.settings import Settings

router = APIRouter(prefix="/admin/schedules", include_in_schema=False)
# Not the names of options, which stand in the same form.
NAME_FIELD, TIME_FIELD, DAYS_FIELD = "schedule-name", "schedule-at", "schedule-days"
DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_FIELDS = {"name": NAME_FIELD, "at": TIME_FIELD, "weekdays": DAYS_FIELD}


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule in the list."""

    id: uuid.UUID
    name: str
    title: str
    at: str
    days: str
    device: str
    enabled: bool
    created_by: str
    next_at: datetime | None
    last: RunSummary | None

    @classmethod
    def of(cls, session: Session, row: Schedule) -> "ScheduleView":
        """Show a row with the newest of its runs."""
        of_schedule = select(Run).where(Run.schedule_id == row.id)
        last = session.scalar(of_schedule.order_by(Run.created_at.desc()).limit(1))
        return cls(
            id=row.id,
            name=row.name,
            title=kind_title(row.kind),
            at=row.at,
            days=_days(row.weekdays),
            device=row.queue.upper(),
            enabled=row.enabled,
            created_by=row.created_by.removeprefix("user:"),
            next_at=next_slot(row, now()) if row.enabled else None,
            last=RunSummary.of(last) if last else None,
        )


def _days(digits: str) -> str:
    """0123456 -> "every day"; 02 -> "Monday, Wednesday"."""
    if digits == EVERY_DAY:
        return "every day"
    return ", ".join(DAY_NAMES[int(digit)] for digit in digits)


@router.get("")
def show_all(
    request: Request, current: CurrentServices, opened: CurrentSession, _user: Admin
) -> HTMLResponse:
    """All schedules."""
    return page(
        request,
        "runs/schedules.html",
        schedules=[ScheduleView.of(opened, row) for row in list_schedules(opened)],
        workers=workers_alive(current.settings),
    )


@router.get("/new")
def choose_kind(request: Request, _user: Admin) -> HTMLResponse:
    """What can be started again and again."""
    return page(request, "runs/schedule_types.html", kinds=KINDS)


@router.get("/new/{kind}")
def new(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    kind: str,
    named: NamedKind,
    preset: Annotated[str, Query(max_length=50)] = "",
) -> HTMLResponse:
    """The form of a schedule: that of its runs, with a name, a time and days."""
    form = form_of(named, opened, current.settings)
    if preset in named.presets:
        form = forms.fill(form, forms.preset_options(named, preset))
    return _form_page(request, current.settings, kind, form, preset=preset)


def _form_page(
    request: Request,
    settings: Settings,
    kind: str,
    form: list[forms.FormField],
    status: HTTPStatus = HTTPStatus.OK,
    **about: Any,
) -> HTMLResponse:
    named = KINDS[kind]
    usual = {
        "faults": {},
        "preset": "",
        "name": "",
        "at": "02:00",
        "days": EVERY_DAY,
        "queue": RunQueue.CPU,
        "priority": "0",
    }
    return page(
        request,
        "runs/schedule_form.html",
        status,
        kind=kind,
        named=named,
        form=form,
        presets={name: forms.preset_texts(named, name) for name in named.presets},
        queues=list(RunQueue),
        day_names=DAY_NAMES,
        labels=forms.labels_of(form)
        | {NAME_FIELD: "Name", TIME_FIELD: "Time of day", DAYS_FIELD: "Days"},
        workers=workers_alive(settings),
        **usual | about,
    )


@router.post("/new/{kind}")
def create(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    typed: PostedForm,
    kind: str,
    named: NamedKind,
) -> Response:
    """Make a schedule; with faults, the form again with all that was typed."""
    name, at = str(typed.get(NAME_FIELD, "")), str(typed.get(TIME_FIELD, ""))
    days = "".join(str(day) for day in typed.getlist(DAYS_FIELD))
    try:
        queue, priority = forms.read_queue(typed)
        create_schedule(
            opened,
            name,
            kind,
            forms.read_form(named, typed),
            at=at,
            weekdays=days,
            queue=queue,
            priority=priority,
            by=user.actor,
        )
    except BadForm as refused:
        opened.rollback()
        # The schedule's own fields have other names in the form.
        faults = {_FIELDS.get(name, name): fault for name, fault in refused.faults.items()}
        return _form_page(
            request,
            current.settings,
            kind,
            forms.keep_typed(form_of(named, opened, current.settings), typed, faults),
            refused.status,
            name=name,
            at=at,
            days=days,
            queue=typed.get(forms.QUEUE_FIELD),
            priority=typed.get(forms.PRIORITY_FIELD),
            faults=faults,
        )
    opened.commit()
    return _to_list()


def _to_list() -> RedirectResponse:
    return RedirectResponse("/admin/schedules", HTTPStatus.SEE_OTHER)


def schedule_to_change(id: uuid.UUID, opened: CurrentSession, _user: ActingAdmin) -> Schedule:
    """The schedule that a form of an admin is about."""
    return find_schedule(opened, id)


ScheduleToChange = Annotated[Schedule, Depends(schedule_to_change)]


@router.post("/{id}/enable")
def switch_on(
    opened: CurrentSession, user: ActingAdmin, schedule: ScheduleToChange
) -> RedirectResponse:
    """Let it start runs again."""
    enable(opened, schedule, by=user.actor)
    opened.commit()
    return _to_list()


@router.post("/{id}/disable")
def switch_off(
    opened: CurrentSession, user: ActingAdmin, schedule: ScheduleToChange
) -> RedirectResponse:
    """Let it start no more runs."""
    disable(opened, schedule, by=user.actor)
    opened.commit()
    return _to_list()


@router.post("/{id}/delete")
def remove(
    opened: CurrentSession, user: ActingAdmin, schedule: ScheduleToChange
) -> RedirectResponse:
    """Remove it; its runs stay."""
    delete_schedule(opened, schedule, by=user.actor)
    opened.commit()
    return _to_list()
