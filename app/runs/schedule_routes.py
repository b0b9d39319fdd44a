"""Pages of schedules in the console: the list, and the forms that create schedules."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.accounts.dependencies import ActingAdmin, Admin
from app.core.database import now
from app.core.errors import InvalidForm
from app.core.language import translated_list
from app.core.links import PageLink
from app.core.templating import Confirmation, confirm, page
from app.datasets.links import data_link
from app.datasets.tables import DataVersion
from app.runs import forms
from app.runs.broker import notify_workers
from app.runs.form_pages import (
    FormPage,
    NamedType,
    PostedForm,
    form_of,
    run_type_of,
    with_chosen,
)
from app.runs.handlers.base import RunType
from app.runs.heartbeat import workers_alive
from app.runs.links import run_url
from app.runs.run_types import RUN_TYPES, run_type_title
from app.runs.schedules import (
    EVERY_DAY,
    Timing,
    change_schedule,
    create_schedule,
    delete_schedule,
    disable_schedule,
    enable_schedule,
    find_schedule,
    list_schedules,
    next_slot,
    run_now,
)
from app.runs.tables import Run, Schedule
from app.runs.views import RunSummary, result_lines
from app.services import CurrentServices, CurrentSession, Services
from ml.texts import msg

router = APIRouter(prefix="/admin/schedules", include_in_schema=False)
# Not the names of options, which are in the same form.
NAME_FIELD, TIME_FIELD, DAYS_FIELD = "schedule-name", "schedule-at", "schedule-days"
DAY_NAMES = (
    msg("Monday"),
    msg("Tuesday"),
    msg("Wednesday"),
    msg("Thursday"),
    msg("Friday"),
    msg("Saturday"),
    msg("Sunday"),
)
_FIELDS = {"name": NAME_FIELD, "at": TIME_FIELD, "weekdays": DAYS_FIELD}
_FORM = FormPage(
    "runs/schedule_form.html",
    labels={NAME_FIELD: msg("Name"), TIME_FIELD: msg("Time (UTC)"), DAYS_FIELD: msg("Days")},
    values={
        "name": "",
        "at": Timing().at,
        "days": EVERY_DAY,
        "day_names": DAY_NAMES,
        "edited": None,
    },
)


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule in the list."""

    id: uuid.UUID
    name: str
    title: str
    at: str
    days: str
    device: str
    data: PageLink | None
    enabled: bool
    created_by: str
    next_at: datetime | None
    last: RunSummary | None
    result: list[tuple[str, str]]

    @classmethod
    def of(cls, session: Session, row: Schedule) -> "ScheduleView":
        """View of a row with its newest run."""
        of_schedule = select(Run).where(Run.schedule_id == row.id)
        last = session.scalar(of_schedule.order_by(Run.created_at.desc()).limit(1))
        data = session.get(DataVersion, str(row.options.get("data", "")))
        return cls(
            id=row.id,
            name=row.name,
            title=run_type_title(row.run_type),
            at=row.at,
            days=_days(row.weekdays),
            device=row.queue.upper(),
            data=data_link(data) if data else None,
            enabled=row.enabled,
            created_by=row.created_by.removeprefix("user:"),
            next_at=next_slot(row, now()) if row.enabled else None,
            last=RunSummary.of(last) if last else None,
            result=result_lines(last)[:2] if last else [],
        )


def _days(digits: str) -> str:
    """0123456 -> "every day"; 02 -> "Monday, Wednesday"."""
    if digits == EVERY_DAY:
        return msg("every day")
    return translated_list(DAY_NAMES[int(digit)] for digit in digits)


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
def choose_type(request: Request, _user: Admin) -> HTMLResponse:
    """The run types that can be scheduled."""
    return page(request, "runs/schedule_types.html", run_types=RUN_TYPES)


@router.get("/new/{kind}")
def new_schedule(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    run_type: NamedType,
    preset: Annotated[str, Query(max_length=50)] = "",
    length: Annotated[str, Query(max_length=50)] = "",
) -> HTMLResponse:
    """The form of a schedule: that of its runs, with a name, a time and days."""
    form = form_of(run_type, opened, current.settings, preset, length)
    return _FORM.show(
        request, opened, current.settings, run_type, form, preset=preset, length=length
    )


@router.post("/new/{kind}")
def create(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    typed: PostedForm,
    run_type: NamedType,
) -> Response:
    """Create a schedule; if fields are invalid, show the form again."""
    name, timing = _typed(typed)
    try:
        queue, priority = forms.read_queue(typed)
        create_schedule(
            opened,
            name,
            run_type.name,
            forms.read_run_form(run_type, typed),
            timing=timing,
            queue=queue,
            priority=priority,
            by=user.actor,
        )
    except InvalidForm as refused:
        return _faults(request, current, opened, run_type, typed, refused)
    opened.commit()
    return _to_list()


def _typed(typed: FormData) -> tuple[str, Timing]:
    """Name and timing in a form."""
    days = "".join(str(day) for day in typed.getlist(DAYS_FIELD))
    return str(typed.get(NAME_FIELD, "")), Timing(str(typed.get(TIME_FIELD, "")), days)


def _faults(
    request: Request,
    current: Services,
    opened: Session,
    run_type: RunType,
    typed: FormData,
    refused: InvalidForm,
    edited: Schedule | None = None,
) -> HTMLResponse:
    """The form again, with what is wrong."""
    opened.rollback()
    name, (at, days) = _typed(typed)
    # The schedule's own fields have other names in the form.
    faults = {_FIELDS.get(field, field): fault for field, fault in refused.faults.items()}
    return _FORM.show_faults(
        request,
        opened,
        current.settings,
        run_type,
        typed,
        faults,
        name=name,
        at=at,
        days=days,
        edited=edited,
    )


def _to_list() -> RedirectResponse:
    return RedirectResponse("/admin/schedules", HTTPStatus.SEE_OTHER)


def schedule_to_change(id: uuid.UUID, opened: CurrentSession, _user: ActingAdmin) -> Schedule:
    """The schedule that an admin's form is about."""
    return find_schedule(opened, id)


ScheduleToChange = Annotated[Schedule, Depends(schedule_to_change)]


@router.get("/{id}/edit")
def edit(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    id: uuid.UUID,
    preset: Annotated[str, Query(max_length=50)] = "",
    length: Annotated[str, Query(max_length=50)] = "",
) -> HTMLResponse:
    """The form of a schedule that exists, with its values."""
    schedule = find_schedule(opened, id)
    run_type = run_type_of(schedule.run_type)
    form = forms.fill(form_of(run_type, opened, current.settings), schedule.options)
    form = with_chosen(form, run_type, preset, length)
    return _FORM.show(
        request,
        opened,
        current.settings,
        run_type,
        form,
        preset=preset,
        length=length,
        name=schedule.name,
        at=schedule.at,
        days=schedule.weekdays,
        queue=schedule.queue,
        priority=str(schedule.priority),
        edited=schedule,
    )


@router.post("/{id}/edit")
def change(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    typed: PostedForm,
    schedule: ScheduleToChange,
) -> Response:
    """Change a schedule; if fields are invalid, show the form again."""
    run_type, (name, timing) = run_type_of(schedule.run_type), _typed(typed)
    try:
        queue, priority = forms.read_queue(typed)
        change_schedule(
            opened,
            schedule,
            name,
            forms.read_run_form(run_type, typed),
            timing=timing,
            queue=queue,
            priority=priority,
            by=user.actor,
        )
    except InvalidForm as refused:
        return _faults(request, current, opened, run_type, typed, refused, schedule)
    opened.commit()
    return _to_list()


@router.post("/{id}/run")
def start_now(
    current: CurrentServices, opened: CurrentSession, user: ActingAdmin, schedule: ScheduleToChange
) -> RedirectResponse:
    """Start a run of a schedule at once."""
    run = run_now(opened, schedule, by=user.actor)
    opened.commit()
    notify_workers(current.settings, run)
    return RedirectResponse(run_url(run.id), HTTPStatus.SEE_OTHER)


@router.post("/{id}/enable")
def switch_on(
    opened: CurrentSession, user: ActingAdmin, schedule: ScheduleToChange
) -> RedirectResponse:
    """Enable a schedule."""
    enable_schedule(opened, schedule, by=user.actor)
    opened.commit()
    return _to_list()


@router.post("/{id}/disable")
def switch_off(
    opened: CurrentSession, user: ActingAdmin, schedule: ScheduleToChange
) -> RedirectResponse:
    """Disable a schedule."""
    disable_schedule(opened, schedule, by=user.actor)
    opened.commit()
    return _to_list()


@router.get("/{id}/delete")
def confirm_remove(
    request: Request, opened: CurrentSession, _user: Admin, id: uuid.UUID
) -> HTMLResponse:
    """What deleting a schedule would do."""
    schedule = find_schedule(opened, id)
    return confirm(
        request,
        Confirmation(
            room="schedules",
            title=msg("Delete the schedule %(name)s?", name=schedule.name),
            text=msg(
                "It starts no more runs. Its past runs stay. This cannot be undone; to pause "
                "it, disable it."
            ),
            action=f"/admin/schedules/{id}/delete",
            button=msg("Delete schedule"),
            back="/admin/schedules",
        ),
    )


@router.post("/{id}/delete")
def remove(
    opened: CurrentSession, user: ActingAdmin, schedule: ScheduleToChange
) -> RedirectResponse:
    """Delete a schedule; its runs stay."""
    delete_schedule(opened, schedule, by=user.actor)
    opened.commit()
    return _to_list()
