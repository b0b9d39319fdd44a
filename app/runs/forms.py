"""Forms made of the options of a kind of run, the same ones that its command line takes.

An option is defined once, as a field of a dataclass (`ml.options`): its type says what control it
gets, its metadata the help, the range and the choices. What a run works on is chosen among what is
registered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.core.errors import BadForm
from app.datasets.tables import DataKind, DataVersion
from app.registry.tables import ModelKind, ModelVersion
from app.runs.kinds import Input, Kind, Ref
from app.runs.tables import Run, RunQueue, RunStatus
from ml.option_fields import OptionField, OptionValue, option_fields, option_title, option_values

# The newest ones; older ones are reached from their own pages.
MOST_CHOICES = 200
PRIORITY = (-100, 100)
# The input that names what others are compared with.
REFERENCE = "reference"
QUEUE_FIELD = "run-queue"
PRIORITY_FIELD = "run-priority"


class Control(StrEnum):
    """How a value is asked for."""

    TEXT = "text"
    WHOLE = "whole"
    NUMBER = "number"
    SWITCH = "switch"
    ONE = "one"  # of the choices
    MANY = "many"


_CONTROLS = {bool: Control.SWITCH, int: Control.WHOLE, float: Control.NUMBER}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the values that a field may have."""

    value: str
    text: str


@dataclass(frozen=True, slots=True)
class FormField:
    """An option, as it is asked for.

    Attributes:
        name: of the option and of the form's field.
        label: for people.
        help: what it means.
        control: how it is asked for.
        value: what stands in it, as text; "on" or nothing for a switch.
        values: what is chosen, where there may be many.
        choices: what can be chosen.
        low: the least number; None: any.
        high: the greatest number; None: any.
        required: false lets it stay empty.
        fault: what was wrong with what was typed.
        nothing: where there is nothing to choose, what to do first.
        nothing_url: where to do it.
        is_first: whether it stands before those that seldom matter.

    """

    name: str
    label: str
    help: str
    control: Control
    value: str = ""
    values: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    low: float | None = None
    high: float | None = None
    required: bool = True
    fault: str = ""
    nothing: str = ""
    nothing_url: str = ""
    is_first: bool = False


_NOTHING: dict[Ref, tuple[str, str]] = {
    Ref.DATA: ("There is no data set yet: add one first", "/admin/data"),
    Ref.SYNTHETIC: ("There are no synthetic images yet: make some", "/admin/runs/new/synthesize"),
    Ref.CLASSIFIER: ("There is no classifier yet: train one", "/admin/runs/new/train-classifier"),
    Ref.GENERATOR: ("There is no generator yet: train a GAN", "/admin/runs/new/train-gan"),
    Ref.RUN: ("No such run has succeeded yet: train a GAN", "/admin/runs/new/train-gan"),
}


def fields_of(kind: Kind, session: Session, serving_sha256: str | None = None) -> list[FormField]:
    """The fields of a kind's form, with its defaults: what it works on, then its options.

    Args:
        kind: of the run.
        session: the database, where inputs are registered.
        serving_sha256: of the active classifier, which others are compared with.
    """
    inputs = [_input_field(each, session, serving_sha256) for each in kind.inputs]
    return inputs + _option_fields(kind)


def _option_fields(kind: Kind) -> list[FormField]:
    return [_option_field(each) for each in option_fields(kind.options) if not each.is_hidden]


def _input_field(of: Input, session: Session, serving_sha256: str | None) -> FormField:
    choices = _registered(of, session, serving_sha256)
    nothing, url = ("", "") if choices else _NOTHING[of.ref]
    is_reference = of.name == REFERENCE
    # The newest is the likeliest one, where one has to be chosen.
    likely = [each.value for each in choices if (each.value == serving_sha256) is is_reference]
    chosen = next(iter(likely), "") if of.required else ""
    return FormField(
        name=of.name,
        label=option_title(of.name),
        help=of.help,
        control=Control.MANY if of.many else Control.ONE,
        value="" if of.many else chosen,
        values=(chosen,) if of.many and chosen else (),
        choices=choices,
        required=of.required,
        nothing=nothing,
        nothing_url=url,
        is_first=True,
    )


def _registered(of: Input, session: Session, serving_sha256: str | None) -> tuple[Choice, ...]:
    """What an input may refer to, newest first, by name and the first letters of its digest."""
    match of.ref:
        case Ref.DATA:
            return _data_choices(session, DataKind.IMAGES)
        case Ref.SYNTHETIC:
            return _data_choices(session, DataKind.SYNTHETIC)
        case Ref.CLASSIFIER:
            return _model_choices(session, ModelKind.CLASSIFIER, serving_sha256)
        case Ref.GENERATOR:
            return _model_choices(session, ModelKind.GENERATOR, None)
        case Ref.RUN:
            return _run_choices(session, of.of)


def _data_choices(session: Session, kind: DataKind) -> tuple[Choice, ...]:
    newest = select(DataVersion).where(DataVersion.kind == kind)
    newest = newest.order_by(DataVersion.created_at.desc()).limit(MOST_CHOICES)
    return tuple(
        Choice(each.sha256, f"{each.name}, {each.images:,} images ({each.sha256[:8]})")
        for each in session.scalars(newest)
    )


def _model_choices(
    session: Session, kind: ModelKind, serving_sha256: str | None
) -> tuple[Choice, ...]:
    newest = select(ModelVersion).where(
        ModelVersion.kind == kind,
        # Without a folder it answered images here once, and is not here to be used.
        ModelVersion.folder.is_not(None),
        ModelVersion.archived_at.is_(None),
    )
    newest = newest.order_by(ModelVersion.registered_at.desc()).limit(MOST_CHOICES)
    return tuple(
        Choice(
            each.sha256,
            f"{each.version} ({each.sha256[:8]}{', active' * (each.sha256 == serving_sha256)})",
        )
        for each in session.scalars(newest)
    )


def _run_choices(session: Session, kind: str) -> tuple[Choice, ...]:
    newest = select(Run).where(Run.kind == kind, Run.status == RunStatus.SUCCEEDED)
    newest = newest.order_by(Run.created_at.desc()).limit(MOST_CHOICES)
    return tuple(
        Choice(str(run.id), f"{run.created_at:%d %b %Y, %H:%M} UTC ({str(run.id)[:8]})")
        for run in session.scalars(newest)
    )


def _option_field(of: OptionField) -> FormField:
    blank = FormField(
        name=of.name,
        label=of.title,
        help=of.help,
        control=Control.ONE if of.choices else _CONTROLS.get(of.type, Control.TEXT),
        choices=tuple(Choice(word, word or "any") for word in of.choices),
        low=of.low,
        high=of.high,
        is_first=of.is_basic,
    )
    return filled(blank, of.default)


def filled(field: FormField, value: Any) -> FormField:
    """A field with a value of the option in it."""
    match value:
        case bool():
            return replace(field, value="on" if value else "")
        case list():
            return replace(field, values=tuple(map(str, value)))
        case float():
            return replace(field, value=number_text(value))
    return replace(field, value=str(value))


def number_text(value: float) -> str:
    """1e-05 -> "0.00001": as people write it, and as a number field takes it."""
    text = format(value, ".12f").rstrip("0").rstrip(".")
    return text if float(text or 0) == value else repr(value)


def fill(form: Sequence[FormField], options: Mapping[str, Any]) -> list[FormField]:
    """The form with the options of a preset or of an earlier run in it."""
    return [
        filled(_with_folder(each, options[each.name]), options[each.name])
        if each.name in options
        else each
        for each in form
    ]


def choose(form: Sequence[FormField], wanted: Mapping[str, str]) -> list[FormField]:
    """The form with inputs chosen that a link names; what cannot be chosen is left as it is."""
    return [
        filled(each, [value] if each.control is Control.MANY else value)
        if (value := wanted.get(each.name)) in {choice.value for choice in each.choices}
        else each
        for each in form
    ]


def _with_folder(field: FormField, value: Any) -> FormField:
    """A field that can be given a folder, as runs from the command line may name one."""
    if not field.choices or not str(value).startswith("/"):
        return field
    return replace(field, choices=(Choice(str(value), str(value)), *field.choices))


def preset_options(kind: Kind, preset: str) -> dict[str, OptionValue]:
    """The options that a preset of the kind stands for."""
    return option_values(kind.presets[preset])


def labels_of(form: Sequence[FormField]) -> dict[str, str]:
    """What each field is called, the device and the priority with them."""
    return {each.name: each.label for each in form} | {
        QUEUE_FIELD: "Device",
        PRIORITY_FIELD: "Priority",
    }


def preset_texts(kind: Kind, preset: str) -> dict[str, str]:
    """What the form's fields hold under a preset, as `FormField.value`: for the page's script."""
    form = fill(_option_fields(kind), preset_options(kind, preset))
    return {each.name: each.value for each in form}


def keep_typed(
    form: Sequence[FormField], typed: FormData, faults: Mapping[str, str]
) -> list[FormField]:
    """The form with what was typed still in it, and each fault beside its field."""
    kept = []
    for each in form:
        texts = tuple(str(text) for text in typed.getlist(each.name))
        kept.append(
            replace(
                each,
                value=texts[0] if texts else "",
                values=texts,
                fault=faults.get(each.name, ""),
            )
        )
    return kept


def read_form(kind: Kind, typed: FormData) -> dict[str, Any]:
    """What a form says of a kind's inputs and options, as texts for `app.runs.service.create` to
    check.

    A switch that is off sends nothing, so it is told from the fields' types that it was asked for.
    """
    told: dict[str, Any] = {}
    for each in kind.inputs:
        texts = [str(text).strip() for text in typed.getlist(each.name)]
        told[each.name] = [text for text in texts if text]
    for option in option_fields(kind.options):
        if option.type is bool:
            told[option.name] = option.name in typed
        elif option.name in typed:
            told[option.name] = str(typed[option.name]).strip()
    return told


def read_queue(typed: FormData) -> tuple[RunQueue, int]:
    """The device and the priority that a form asks for.

    Raises:
        BadForm: with a fault for each that makes no sense.
    """
    faults = {}
    queue, priority = RunQueue.CPU, 0
    try:
        queue = RunQueue(str(typed.get(QUEUE_FIELD, RunQueue.CPU.value)))
    except ValueError:
        faults[QUEUE_FIELD] = "choose CPU or GPU"
    text = str(typed.get(PRIORITY_FIELD, "")).strip() or "0"
    try:
        priority = int(text)
        if not PRIORITY[0] <= priority <= PRIORITY[1]:
            raise ValueError
    except ValueError:
        faults[PRIORITY_FIELD] = f"a whole number from {PRIORITY[0]} to {PRIORITY[1]}"
    if faults:
        raise BadForm(faults)
    return queue, priority
