"""Pages of runs in the console: the list, the forms that start runs, and the page of each run."""

import uuid
from collections.abc import AsyncIterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Header, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.orm import Session

from app.accounts.dependencies import ActingAdmin, Admin
from app.core.amounts import size
from app.core.disk_use import folder_bytes
from app.core.errors import InvalidForm
from app.core.safe_files import file_in
from app.core.security import SESSION_COOKIE, cookie_name
from app.core.templating import Confirmation, confirm, page
from app.runs import forms
from app.runs import queue as runs
from app.runs.broker import notify_workers
from app.runs.command_line import start_command
from app.runs.comparison import MOST_RUNS
from app.runs.curves import read_curves
from app.runs.deletion import delete_run
from app.runs.estimates import Estimator
from app.runs.events import follow, place_in_streams
from app.runs.files import is_sample, list_results, list_samples, run_folder, send_file
from app.runs.form_pages import FormPage, NamedType, PostedForm, form_of, to_import_form
from app.runs.handlers.import_data import UPLOAD
from app.runs.heartbeat import workers_alive
from app.runs.import_report import import_report
from app.runs.labels import label_run
from app.runs.links import run_url
from app.runs.options import checked_options
from app.runs.phases import phases_of, runs_ahead
from app.runs.progress import LOG
from app.runs.queue import STATUS_NAMES
from app.runs.run_checks import check_run
from app.runs.run_types import RUN_TYPES
from app.runs.service import create_run
from app.runs.tables import Run, RunStatus
from app.runs.views import (
    ORDER_NAMES,
    RunFilter,
    RunSummary,
    data_of_each,
    duration,
    events_of,
    option_texts,
    registered_by,
    registered_by_each,
    result_lines,
    runs_page,
    took,
)
from app.services import CurrentServices, CurrentSession
from app.settings import Settings
from ml.texts import msg

router = APIRouter(prefix="/admin/runs", include_in_schema=False)
_NO_FILE = msg("This run has no such file.")
_FORM = FormPage("runs/form.html", labels={}, values={})
# Posts the form to be checked, and starts nothing.
CHECK_BUTTON = "check"
BY_SCRIPT = "script"


@router.get("")
def show_all(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    chosen: Annotated[RunFilter, Depends(RunFilter.of)],
    before: Annotated[str | None, Query(max_length=100)] = None,
) -> HTMLResponse:
    """All runs, or those of a filter."""
    found = runs_page(opened, chosen, before)
    return page(
        request,
        "runs/runs.html",
        runs=[RunSummary.of(row) for row in found.rows],
        results=registered_by_each(opened, found.rows),
        metrics={row.id: result_lines(row)[:2] for row in found.rows},
        data_sets=data_of_each(opened, found.rows),
        chosen=chosen,
        run_types={name: each.title for name, each in RUN_TYPES.items()},
        statuses={each.value: name for each, name in STATUS_NAMES.items()},
        orders=ORDER_NAMES,
        following=found.next_cursor,
        workers=workers_alive(current.settings),
        most_compared=MOST_RUNS,
    )


@router.get("/new")
def choose_type(request: Request, _user: Admin) -> HTMLResponse:
    """The run types."""
    return page(request, "runs/types.html", run_types=RUN_TYPES)


@router.get("/new/{kind}")
def new_run(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    run_type: NamedType,
    preset: Annotated[str, Query(max_length=50)] = "",
    length: Annotated[str, Query(max_length=50)] = "",
    like: uuid.UUID | None = None,
) -> Response:
    """The form of a run type, with its defaults, a preset, or the options of an earlier run.

    A link can choose inputs by name: `?bundle=SHA256`.
    """
    if elsewhere := to_import_form(run_type):
        return elsewhere
    form = form_of(run_type, opened, current.settings, preset, length)
    changed: dict[str, object] = {"preset": preset, "length": length}
    if like:
        earlier = runs.get_run(opened, like)
        form = forms.fill(form, earlier.options)
        changed |= {"queue": earlier.queue, "priority": str(earlier.priority)}
    form = forms.choose_inputs(form, request.query_params)
    return _FORM.show(request, opened, current.settings, run_type, form, **changed)


@router.post("/new/{kind}")
def start(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    typed: PostedForm,
    run_type: NamedType,
) -> Response:
    """Start a run, or only say what it would take; if fields are invalid, show the form again."""
    if elsewhere := to_import_form(run_type):
        return elsewhere
    show = partial(_FORM.show_faults, request, opened, current.settings, run_type, typed)
    try:
        queue, priority = forms.read_queue(typed)
        if CHECK_BUTTON in typed:
            options = checked_options(opened, run_type.name, forms.read_run_form(run_type, typed))
            checked = check_run(
                opened, current.settings, run_type, options, queue=queue, priority=priority
            )
            return show({}, checked=checked)
        run = create_run(
            opened,
            run_type.name,
            forms.read_run_form(run_type, typed),
            requested_by=user.actor,
            queue=queue,
            priority=priority,
        )
    except InvalidForm as refused:
        opened.rollback()
        response = show(refused.faults)
        if typed.get(CHECK_BUTTON) == BY_SCRIPT:
            # A form that is still being filled in is no mistake, and no error of the browser's log.
            response.status_code = HTTPStatus.OK
        return response
    opened.commit()
    notify_workers(current.settings, run)
    return _to_page(run.id)


def _to_page(id: uuid.UUID) -> RedirectResponse:
    return RedirectResponse(run_url(id), HTTPStatus.SEE_OTHER)


@router.get("/{id}")
def show(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    id: uuid.UUID,
    sample: int | None = None,
) -> HTMLResponse:
    """The page of a run."""
    return page(
        request, "runs/run.html", HTTPStatus.OK, **_context(opened, current.settings, id, sample)
    )


@router.get("/{id}/live")
def live(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    id: uuid.UUID,
    sample: int | None = None,
) -> HTMLResponse:
    """The parts of a run's page that change while it runs, for the page's script."""
    return page(
        request, "runs/_live.html", HTTPStatus.OK, **_context(opened, current.settings, id, sample)
    )


def _context(
    opened: Session, settings: Settings, id: uuid.UUID, sample: int | None
) -> Mapping[str, object]:
    """What the page shows; `sample` is the step of the grid to show."""
    run = runs.get_run(opened, id)
    folder = run_folder(settings, id)
    samples = list_samples(folder, id)
    last = len(samples) - 1
    return {
        "run": run,
        "summary": RunSummary.of(run),
        "phases": [
            (one.name, duration(one.seconds), one.is_present) for one in phases_of(run, folder)
        ],
        "ahead": runs_ahead(opened, run) if run.status is RunStatus.QUEUED else 0,
        "has_ended": run.status in runs.ENDED,
        "faults": {},
        "run_type": RUN_TYPES.get(run.run_type),
        "curves": read_curves(folder),
        "samples": samples,
        "shown": next((k for k, each in enumerate(samples) if each.step == sample), last),
        "files": list_results(folder, id),
        "left_out": import_report(folder),
        "has_log": (folder / LOG).is_file(),
        "options": option_texts(opened, run),
        "registered": registered_by(opened, run),
        "result_lines": result_lines(run),
        "took": took(run),
        "events": events_of(opened, run),
        "workers": workers_alive(settings),
        "can_resume": runs.can_resume(run),
        "can_finish": runs.can_finish_early(run),
        **_plan(opened, settings, run),
    }


def _plan(opened: Session, settings: Settings, run: Run) -> Mapping[str, object]:
    """How long a queued run is likely to take, and the command that starts it again."""
    run_type, estimate = RUN_TYPES.get(run.run_type), None
    if run_type is None:
        return {"estimate": None, "command": ""}
    if run.status is RunStatus.QUEUED:
        estimate = Estimator(opened, settings, run_type).estimate(run.options, run.queue)
    # An uploaded archive is gone when its import has ended.
    command = (
        ""
        if UPLOAD in run.options
        else start_command(run_type, run.options, run.queue, run.priority)
    )
    return {"estimate": estimate, "command": command}


@router.get("/{id}/events", response_class=EventSourceResponse)
async def events(
    request: Request,
    current: CurrentServices,
    _user: Admin,
    _place: Annotated[None, Depends(place_in_streams)],
    id: uuid.UUID,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """An event whenever the run changes; see `app.runs.events`."""
    token = request.cookies[cookie_name(SESSION_COOKIE, current.settings)]
    async for event in follow(current, id, token, last_event_id):
        yield event


@router.get("/{id}/files/{path:path}")
def file(current: CurrentServices, _user: Admin, id: uuid.UUID, path: str) -> StreamingResponse:
    """A file of the run."""
    found = file_in(run_folder(current.settings, id), path, _NO_FILE)
    return send_file(found, lasting=is_sample(path))


@router.get("/{id}/log")
def whole_log(current: CurrentServices, _user: Admin, id: uuid.UUID) -> StreamingResponse:
    """The whole log as a download."""
    log = file_in(run_folder(current.settings, id), LOG, _NO_FILE)
    return send_file(log, download=True)


@router.post("/{id}/label")
def label(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    id: uuid.UUID,
    name: Annotated[str, Form(max_length=1000)] = "",
    tags: Annotated[str, Form(max_length=2000)] = "",
    notes: Annotated[str, Form(max_length=50_000)] = "",
) -> Response:
    """Give a run a name, tags and notes."""
    try:
        label_run(opened, runs.get_run(opened, id), name, tags, notes, by=user.actor)
    except InvalidForm as refused:
        opened.rollback()
        shown = {**_context(opened, current.settings, id, None), "faults": refused.faults}
        return page(request, "runs/run.html", refused.status, **shown)
    opened.commit()
    return _to_page(id)


@router.get("/{id}/delete")
def confirm_delete(
    request: Request, current: CurrentServices, opened: CurrentSession, _user: Admin, id: uuid.UUID
) -> HTMLResponse:
    """What deleting a run would do."""
    run = runs.get_run(opened, id)
    space = size(folder_bytes(run_folder(current.settings, id)))
    return confirm(
        request,
        Confirmation(
            room="runs",
            title=msg("Delete the run %(name)s?", name=RunSummary.of(run).name),
            text=msg(
                "Its log, metrics, samples and checkpoints are deleted, which frees "
                "%(space)s. This cannot be undone.",
                space=space,
            ),
            more=msg("Models and data sets that it registered stay.")
            if registered_by(opened, run)
            else "",
            action=f"/admin/runs/{id}/delete",
            button=msg("Delete run"),
            back=f"/admin/runs/{id}",
        ),
    )


@router.post("/{id}/delete")
def delete(
    current: CurrentServices, opened: CurrentSession, user: ActingAdmin, id: uuid.UUID
) -> RedirectResponse:
    """Delete a run that has ended, with its files."""
    delete_run(opened, current.settings, id, by=user.actor)
    return RedirectResponse("/admin/runs", HTTPStatus.SEE_OTHER)


@router.post("/{id}/cancel")
def cancel(opened: CurrentSession, user: ActingAdmin, id: uuid.UUID) -> RedirectResponse:
    """Cancel a run: at once if it is queued, within seconds if it is running."""
    runs.request_cancel(opened, id, requested_by=user.actor)
    opened.commit()
    return _to_page(id)


@router.post("/{id}/finish")
def finish_early(opened: CurrentSession, user: ActingAdmin, id: uuid.UUID) -> RedirectResponse:
    """Ask a training to stop, and to keep the best result so far."""
    runs.request_finish(opened, id, requested_by=user.actor)
    opened.commit()
    return _to_page(id)


@router.post("/{id}/archive")
def archive(
    opened: CurrentSession,
    user: ActingAdmin,
    id: uuid.UUID,
    archived: Annotated[bool, Form()] = True,
) -> RedirectResponse:
    """Hide a run that has ended from the list, or show it again."""
    runs.set_archived(opened, id, archived=archived, by=user.actor)
    opened.commit()
    return _to_page(id)


@router.post("/{id}/resume")
def resume(
    current: CurrentServices, opened: CurrentSession, user: ActingAdmin, id: uuid.UUID
) -> RedirectResponse:
    """Resume a failed or cancelled run where it stopped."""
    run = runs.resume(opened, id, requested_by=user.actor)
    opened.commit()
    notify_workers(current.settings, run)
    return _to_page(id)
