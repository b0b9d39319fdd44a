"""The console's room of long jobs: their list, the forms that start them, each one's page."""

import uuid
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.accounts.dependencies import ActingAdmin, Admin
from app.core.errors import BadForm, NotFound
from app.core.safe_files import file_in
from app.core.security import SESSION_COOKIE
from app.core.templating import page
from app.registry.queries import serving_sha256
from app.runs import forms
from app.runs import queue as runs
from app.runs.broker import notify_workers
from app.runs.curves import read_curves
from app.runs.events import follow, place_in_streams
from app.runs.files import (
    LOG,
    is_sample,
    list_reports,
    list_samples,
    run_folder,
    send_file,
)
from app.runs.heartbeat import workers_alive
from app.runs.kinds import KINDS, Kind
from app.runs.service import create_run
from app.runs.tables import RunQueue, RunStatus
from app.runs.views import (
    STATUS_NAMES,
    RunSummary,
    events_of,
    option_texts,
    registered_by,
    result_lines,
    runs_page,
    took,
)
from app.services import CurrentServices, CurrentSession
from app.settings import Settings

_NO_FILE = "This run has no such file."
router = APIRouter(prefix="/admin/runs", include_in_schema=False)
_MOST_FIELDS = 300


async def posted_form(request: Request, _user: ActingAdmin) -> FormData:
    """A form whose fields are known only when it is read; who sends it is checked before."""
    return await request.form(max_files=0, max_fields=_MOST_FIELDS)


PostedForm = Annotated[FormData, Depends(posted_form)]


def kind_of(kind: str) -> Kind:
    """The kind of run that an address names."""
    if kind not in KINDS:
        raise NotFound(f"no kind of run is called {kind!r}: see what can be started")
    return KINDS[kind]


NamedKind = Annotated[Kind, Depends(kind_of)]


def form_of(kind: Kind, opened: Session, settings: Settings) -> list[forms.FormField]:
    """The form of a kind of run with its defaults."""
    return forms.fields_of(kind, opened, serving_sha256(opened, settings))


@router.get("")
def show_all(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    status: Annotated[str, Query(max_length=20)] = "",
    kind: Annotated[str, Query(max_length=50)] = "",
    before: Annotated[str | None, Query(max_length=100)] = None,
) -> HTMLResponse:
    """All runs, newest first; of one status or one kind where that was asked for."""
    wanted = RunStatus(status) if status in set(RunStatus) else None
    found = runs_page(opened, status=wanted, kind=kind or None, cursor=before)
    return page(
        request,
        "runs/runs.html",
        runs=[RunSummary.of(row) for row in found.rows],
        results={row.id: registered_by(opened, row) for row in found.rows},
        kinds={name: each.title for name, each in KINDS.items()},
        statuses={each.value: name for each, name in STATUS_NAMES.items()},
        chosen_status=wanted.value if wanted else "",
        chosen_kind=kind,
        following=found.next_cursor,
        workers=workers_alive(current.settings),
    )


@router.get("/new")
def choose_kind(request: Request, _user: Admin) -> HTMLResponse:
    """What can be started."""
    return page(request, "runs/types.html", kinds=KINDS)


@router.get("/new/{kind}")
def new_run(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    kind: str,
    named: NamedKind,
    preset: Annotated[str, Query(max_length=50)] = "",
    like: uuid.UUID | None = None,
) -> HTMLResponse:
    """The form of a kind of run: with its defaults, a preset, or the options of an earlier run.

    A link can choose what the run works on, by the name of the input: `?bundle=SHA256`.
    """
    form = form_of(named, opened, current.settings)
    queue, priority = RunQueue.CPU, 0
    if like:
        earlier = runs.get_run(opened, like)
        form = forms.fill(form, earlier.options)
        queue, priority = earlier.queue, earlier.priority
    if preset in named.presets:
        form = forms.fill(form, forms.preset_options(named, preset))
    form = forms.choose(form, request.query_params)
    return _form_page(
        request, current.settings, kind, form, preset=preset, queue=queue, priority=str(priority)
    )


def _form_page(
    request: Request,
    settings: Settings,
    kind: str,
    form: list[forms.FormField],
    status: HTTPStatus = HTTPStatus.OK,
    **about: Any,
) -> HTMLResponse:
    named = KINDS[kind]
    return page(
        request,
        "runs/form.html",
        status,
        kind=kind,
        named=named,
        form=form,
        labels=forms.labels_of(form),
        presets={name: forms.preset_texts(named, name) for name in named.presets},
        queues=list(RunQueue),
        workers=workers_alive(settings),
        **{"faults": {}, "preset": ""} | about,
    )


@router.post("/new/{kind}")
def start(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    typed: PostedForm,
    kind: str,
    named: NamedKind,
) -> Response:
    """Start a run; with faults, the form again with all that was typed."""
    form = form_of(named, opened, current.settings)
    try:
        queue, priority = forms.read_queue(typed)
        run = create_run(
            opened,
            kind,
            forms.read_form(named, typed),
            requested_by=user.actor,
            queue=queue,
            priority=priority,
        )
    except BadForm as refused:
        opened.rollback()
        return _form_page(
            request,
            current.settings,
            kind,
            forms.keep_typed(form, typed, refused.faults),
            refused.status,
            queue=typed.get(forms.QUEUE_FIELD),
            priority=typed.get(forms.PRIORITY_FIELD),
            faults=refused.faults,
        )
    opened.commit()
    notify_workers(current.settings, run)
    return _to_page(run.id)


def _to_page(id: uuid.UUID) -> RedirectResponse:
    return RedirectResponse(f"/admin/runs/{id}", HTTPStatus.SEE_OTHER)


@router.get("/{id}")
def show(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    id: uuid.UUID,
    sample: int | None = None,
) -> HTMLResponse:
    """All about a run."""
    about = _about(opened, current.settings, id, sample)
    return page(request, "runs/run.html", **about)


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
    about = _about(opened, current.settings, id, sample)
    return page(request, "runs/_live.html", **about)


def _about(
    opened: Session, settings: Settings, id: uuid.UUID, sample: int | None
) -> Mapping[str, Any]:
    """What the page shows; `sample` is the step of the grid that was asked for."""
    run = runs.get_run(opened, id)
    folder = run_folder(settings, id)
    samples = list_samples(folder, id)
    last = len(samples) - 1
    return {
        "run": run,
        "summary": RunSummary.of(run),
        "kind": KINDS.get(run.kind),
        "curves": read_curves(folder),
        "samples": samples,
        "shown": next((k for k, each in enumerate(samples) if each.step == sample), last),
        "reports": list_reports(folder, id),
        "has_log": (folder / LOG).is_file(),
        "options": option_texts(opened, run),
        "registered": registered_by(opened, run),
        "result_lines": result_lines(run),
        "took": took(run),
        "events": events_of(opened, run),
        "workers": workers_alive(settings),
        "can_go_on": runs.can_go_on(run),
    }


@router.get("/{id}/events", response_class=EventSourceResponse)
async def events(
    request: Request,
    current: CurrentServices,
    _user: Admin,
    _place: Annotated[None, Depends(place_in_streams)],
    id: uuid.UUID,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Says when a run changes; see `app.runs.events`."""
    token = request.cookies[SESSION_COOKIE]
    async for event in follow(current, id, token, last_event_id):
        yield event


@router.get("/{id}/files/{path:path}")
def file(current: CurrentServices, _user: Admin, id: uuid.UUID, path: str) -> StreamingResponse:
    """A file that the run wrote."""
    found = file_in(run_folder(current.settings, id), path, _NO_FILE)
    return send_file(found, lasting=is_sample(path))


@router.get("/{id}/log")
def whole_log(current: CurrentServices, _user: Admin, id: uuid.UUID) -> StreamingResponse:
    """The whole log, to keep."""
    log = file_in(run_folder(current.settings, id), LOG, _NO_FILE)
    return send_file(log, download=True)


@router.post("/{id}/cancel")
def cancel(opened: CurrentSession, user: ActingAdmin, id: uuid.UUID) -> RedirectResponse:
    """Stop a run: at once where it waits, within seconds where a worker is at it."""
    runs.request_cancel(opened, id, requested_by=user.actor)
    opened.commit()
    return _to_page(id)


@router.post("/{id}/resume")
def resume(
    current: CurrentServices, opened: CurrentSession, user: ActingAdmin, id: uuid.UUID
) -> RedirectResponse:
    """Let a failed or cancelled run go on where it stopped."""
    run = runs.resume(opened, id, requested_by=user.actor)
    opened.commit()
    notify_workers(current.settings, run)
    return _to_page(id)
