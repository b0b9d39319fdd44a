"""What the forms of runs and of schedules share: their fields, and what a POST of one says."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.accounts.dependencies import ActingAdmin
from app.core.errors import InvalidForm, NotFound
from app.core.templating import page
from app.registry.queries import serving_sha256
from app.runs import forms
from app.runs.estimates import Estimator
from app.runs.handlers.base import RunType
from app.runs.handlers.import_data import ImportData
from app.runs.heartbeat import workers_alive
from app.runs.run_lengths import ChosenLength, devices_of, length_choices, length_values
from app.runs.run_types import RUN_TYPES
from app.runs.tables import RunQueue
from app.settings import Settings
from ml.texts import msg

_MOST_FIELDS = 300
# Imports have a separate form, which takes archives.
IMPORT_FORM = "/admin/data/new"


async def posted_form(request: Request, _user: ActingAdmin) -> FormData:
    """A form whose fields are known only when it is read; who sends it is checked before."""
    return await request.form(max_files=0, max_fields=_MOST_FIELDS)


PostedForm = Annotated[FormData, Depends(posted_form)]


def run_type_of(kind: str) -> RunType:
    """The run type that a URL names.

    Raises:
        NotFound: there is no such run type.
    """
    if kind not in RUN_TYPES:
        raise NotFound(
            msg("There is no run type %(kind)s. See what can be started.", kind=f"{kind!r}")
        )
    return RUN_TYPES[kind]


NamedType = Annotated[RunType, Depends(run_type_of)]


def to_import_form(run_type: RunType) -> RedirectResponse | None:
    """A redirect to the form of imports; None for other run types."""
    if not isinstance(run_type, ImportData):
        return None
    return RedirectResponse(IMPORT_FORM, HTTPStatus.SEE_OTHER)


def form_of(
    run_type: RunType, opened: Session, settings: Settings, preset: str = "", length: str = ""
) -> list[forms.FormField]:
    """The form of a run type with its defaults, or the options of a preset and a length."""
    form = forms.fields_of(run_type, opened, serving_sha256(opened, settings))
    return with_chosen(form, run_type, preset, length)


def with_chosen(
    form: list[forms.FormField], run_type: RunType, preset: str, length: str
) -> list[forms.FormField]:
    """The form with the options of a preset and of a length."""
    if preset in run_type.presets:
        form = forms.fill(form, forms.preset_options(run_type, preset))
    return forms.fill(form, length_values(run_type, ChosenLength.of(length)))


@dataclass(frozen=True, slots=True)
class FormPage:
    """The page of a form: of a run or of a schedule.

    Attributes:
        template: of the page.
        labels: of the fields besides the run's own, by name.
        values: what the template needs besides, with the defaults of those fields.
    """

    template: str
    labels: Mapping[str, str]
    values: Mapping[str, object]

    def show(
        self,
        request: Request,
        opened: Session,
        settings: Settings,
        run_type: RunType,
        form: list[forms.FormField],
        **changed: object,
    ) -> HTMLResponse:
        """Show the form; `changed` replaces values."""
        workers = workers_alive(settings)
        devices = devices_of(workers)
        length = ChosenLength.of(str(changed.get("length", "")))
        common: dict[str, object] = {
            "run_type": run_type,
            "form": form,
            "labels": {**forms.field_labels(form), **self.labels},
            "presets": {name: forms.preset_texts(run_type, name) for name in run_type.presets},
            "lengths": length_choices(
                run_type, Estimator(opened, settings, run_type), forms.known_values(form), devices
            ),
            "queues": list(RunQueue),
            "devices": devices,
            "workers": workers,
            "faults": {},
            "preset": "",
            "length": "",
            "checked": None,
            "queue": length.queue if length else RunQueue.CPU,
            "priority": "0",
        }
        return page(request, self.template, HTTPStatus.OK, **{**common, **self.values, **changed})

    def show_faults(
        self,
        request: Request,
        opened: Session,
        settings: Settings,
        run_type: RunType,
        typed: FormData,
        faults: Mapping[str, str],
        **changed: object,
    ) -> HTMLResponse:
        """Show the form with everything that was typed, and a sentence beside each fault."""
        form = form_of(run_type, opened, settings)
        response = self.show(
            request,
            opened,
            settings,
            run_type,
            forms.keep_typed(form, typed, faults),
            faults=faults,
            queue=typed.get(forms.QUEUE_FIELD),
            priority=typed.get(forms.PRIORITY_FIELD),
            **changed,
        )
        if faults:
            response.status_code = InvalidForm.status
        return response
