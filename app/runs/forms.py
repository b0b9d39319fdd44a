"""Forms made from the inputs and options of a run type.

An option is defined once, in its options class (`ml.option_fields`), which determines its control,
help, range and choices. Inputs are chosen from what is registered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.core.errors import InvalidForm
from app.core.language import timestamp, translated, translated_list
from app.datasets.small_splits import small_splits
from app.datasets.tables import DataKind, DataVersion
from app.registry.tables import ModelKind, ModelVersion
from app.runs.data_checks import LABELS_OPTION
from app.runs.handlers.base import Input, InputType, RunType
from app.runs.tables import Run, RunQueue, RunStatus
from ml.json_model import JsonObject
from ml.labels import label_name, ordered_labels
from ml.option_fields import OptionField, OptionValue, option_fields, option_title, option_values
from ml.texts import msg

# Data sets whose counts stand beside a class.
_MOST_COUNTS = 3
# The newest ones; older ones can be used from their own pages.
MOST_CHOICES = 200
PRIORITY = (-100, 100)
# The input that others are compared with.
REFERENCE = "reference"
QUEUE_FIELD = "run-queue"
PRIORITY_FIELD = "run-priority"


class Control(StrEnum):
    """Control of a form field."""

    TEXT = "text"
    WHOLE = "whole"
    NUMBER = "number"
    SWITCH = "switch"
    ONE = "one"  # of the choices
    MANY = "many"


_CONTROLS = {bool: Control.SWITCH, int: Control.WHOLE, float: Control.NUMBER}


@dataclass(frozen=True, slots=True)
class FieldChoice:
    """A value that a field may have."""

    value: str
    text: str


@dataclass(frozen=True, slots=True)
class FormField:
    """A field of a form.

    Attributes:
        name: of the option and of the form's field.
        label: for people.
        help: what it means.
        control: how it is entered.
        value: its present value as text; "on" or empty for a switch.
        values: the chosen values, where there may be many.
        choices: what can be chosen.
        low: the least number; None: any.
        high: the greatest number; None: any.
        required: whether it has to be filled in.
        fault: what is wrong with the value, in a sentence.
        nothing: if nothing can be chosen, what to do first.
        nothing_url: where to do it.
        is_first: whether it is shown before the options that fold away.
        none: what it means to choose nothing, where that is possible.

    """

    name: str
    label: str
    help: str
    control: Control
    value: str = ""
    values: tuple[str, ...] = ()
    choices: tuple[FieldChoice, ...] = ()
    low: float | None = None
    high: float | None = None
    required: bool = True
    fault: str = ""
    nothing: str = ""
    nothing_url: str = ""
    is_first: bool = False
    none: str = msg("None")


_NOTHING: dict[InputType, tuple[str, str]] = {
    InputType.DATA: (msg("There is no data set yet. Add one"), "/admin/data/new"),
    InputType.SYNTHETIC: (
        msg("There are no synthetic images yet. Generate some"),
        "/admin/runs/new/synthesize",
    ),
    InputType.CLASSIFIER: (
        msg("There is no classifier yet. Train one"),
        "/admin/runs/new/train-classifier",
    ),
    InputType.GENERATOR: (
        msg("There is no generator yet. Train a GAN"),
        "/admin/runs/new/train-gan",
    ),
    InputType.RUN: (msg("No such run has succeeded yet. Train a GAN"), "/admin/runs/new/train-gan"),
}


def fields_of(
    run_type: RunType, session: Session, serving_sha256: str | None = None
) -> list[FormField]:
    """The fields of a run type with their defaults: inputs, then options.

    Args:
        run_type: of the run.
        session: the database, where inputs are registered.
        serving_sha256: of the active classifier, the default to compare others with.
    """
    inputs = [_input_field(each, session, serving_sha256) for each in run_type.inputs]
    options = _option_fields(run_type)
    return inputs + [_with_classes(each, session) for each in options]


def _with_classes(field: FormField, session: Session) -> FormField:
    """A field that names classes as check boxes, with the number of images in each data set."""
    if field.name != LABELS_OPTION:
        return field
    newest = select(DataVersion).where(DataVersion.kind == DataKind.IMAGES)
    newest = newest.order_by(DataVersion.created_at.desc()).limit(MOST_CHOICES)
    sets = [each for each in session.scalars(newest) if each.summary]
    labels = ordered_labels(label for each in sets for label in each.contents.by_label)
    if not labels:
        return field
    choices = tuple(FieldChoice(label, _class_text(label, sets)) for label in labels)
    return replace(
        field,
        help=msg("Classes to learn, with the number of images in each data set."),
        control=Control.MANY,
        choices=choices,
        values=_names(field.value),
    )


def _class_text(label: str, sets: Sequence[DataVersion]) -> str:
    counts = [
        msg("%(count)s in %(name)s", count=count, name=each.name)
        for each in sets
        if (count := each.contents.by_label.get(label))
    ]
    listed = translated_list(counts[:_MOST_COUNTS])
    if len(counts) > _MOST_COUNTS:
        listed = translated(
            msg(
                "%(listed)s and %(count)s more",
                listed=listed,
                count=len(counts) - _MOST_COUNTS,
            )
        )
    return f"{translated(label_name(label))}: {listed}"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _option_fields(run_type: RunType) -> list[FormField]:
    return [_option_field(each) for each in option_fields(run_type.Options) if not each.is_hidden]


def _input_field(of: Input, session: Session, serving_sha256: str | None) -> FormField:
    choices = _registered(of, session, serving_sha256)
    nothing, url = ("", "") if choices else _NOTHING[of.type]
    is_reference = of.name == REFERENCE
    likely = [each.value for each in choices if (each.value == serving_sha256) is is_reference]
    # Of several data sets none is the default: the newest is easily taken for the right one.
    is_open = of.type is InputType.DATA and len(likely) > 1
    chosen = next(iter(likely), "") if of.required and not is_open else ""
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
        none=of.none,
    )


def _registered(of: Input, session: Session, serving_sha256: str | None) -> tuple[FieldChoice, ...]:
    """What an input may refer to, newest first, by name and the first digits of its digest."""
    match of.type:
        case InputType.DATA:
            return _data_choices(session, DataKind.IMAGES)
        case InputType.SYNTHETIC:
            return _data_choices(session, DataKind.SYNTHETIC)
        case InputType.CLASSIFIER:
            return _model_choices(session, ModelKind.CLASSIFIER, serving_sha256)
        case InputType.GENERATOR:
            return _model_choices(session, ModelKind.GENERATOR, None)
        case InputType.RUN:
            return _run_choices(session, of.run_type)


def _data_choices(session: Session, kind: DataKind) -> tuple[FieldChoice, ...]:
    newest = select(DataVersion).where(DataVersion.kind == kind)
    newest = newest.order_by(DataVersion.created_at.desc()).limit(MOST_CHOICES)
    return tuple(FieldChoice(each.sha256, _data_text(each)) for each in session.scalars(newest))


def _data_text(version: DataVersion) -> str:
    of: dict[str, str | int] = {
        "name": version.name,
        "count": version.images,
        "sha256": version.sha256[:8],
    }
    if version.kind is DataKind.IMAGES and version.summary and small_splits(version):
        return msg("%(name)s, %(count)s images (%(sha256)s), few to measure on", **of)
    return msg("%(name)s, %(count)s images (%(sha256)s)", **of)


def _model_choices(
    session: Session, kind: ModelKind, serving_sha256: str | None
) -> tuple[FieldChoice, ...]:
    newest = select(ModelVersion).where(
        ModelVersion.kind == kind,
        # Without a folder only its card is here.
        ModelVersion.folder.is_not(None),
        ModelVersion.archived_at.is_(None),
    )
    newest = newest.order_by(ModelVersion.registered_at.desc()).limit(MOST_CHOICES)
    return tuple(
        FieldChoice(
            each.sha256,
            msg("%(version)s (%(sha256)s, active)", version=each.version, sha256=each.sha256[:8])
            if each.sha256 == serving_sha256
            else f"{each.version} ({each.sha256[:8]})",
        )
        for each in session.scalars(newest)
    )


def _run_choices(session: Session, run_type: str) -> tuple[FieldChoice, ...]:
    newest = select(Run).where(Run.run_type == run_type, Run.status == RunStatus.SUCCEEDED)
    newest = newest.order_by(Run.created_at.desc()).limit(MOST_CHOICES)
    return tuple(
        FieldChoice(str(run.id), f"{timestamp(run.created_at)} ({str(run.id)[:8]})")
        for run in session.scalars(newest)
    )


def _option_field(of: OptionField) -> FormField:
    blank = FormField(
        name=of.name,
        label=of.title,
        # A help that says no more than the label is left out.
        help="" if of.help.rstrip(".") == of.title else of.help,
        control=Control.ONE if of.choices else _CONTROLS.get(of.type, Control.TEXT),
        choices=tuple(FieldChoice(word, word or "any") for word in of.choices),
        low=of.low,
        high=of.high,
        is_first=of.is_basic,
    )
    return filled(blank, of.default)


def filled(field: FormField, value: Any) -> FormField:
    """The field with a value."""
    match value:
        case bool():
            return replace(field, value="on" if value else "")
        case list():
            return replace(field, values=tuple(map(str, value)))
        case float():
            return replace(field, value=number_text(value))
    if field.control is Control.MANY:
        return replace(field, value=str(value), values=_names(str(value)))
    return replace(field, value=str(value))


def number_text(value: float) -> str:
    """1e-05 -> "0.00001", as number fields accept it."""
    text = format(value, ".12f").rstrip("0").rstrip(".")
    return text if float(text or 0) == value else repr(value)


def fill(form: Sequence[FormField], options: Mapping[str, Any]) -> list[FormField]:
    """The form with the options of a preset or an earlier run."""
    return [
        filled(_with_folder(each, options[each.name]), options[each.name])
        if each.name in options
        else each
        for each in form
    ]


def choose_inputs(form: Sequence[FormField], wanted: Mapping[str, str]) -> list[FormField]:
    """The form with the inputs that a link names; what cannot be chosen is ignored."""
    return [
        filled(each, [value] if each.control is Control.MANY else value)
        if (value := wanted.get(each.name)) in {choice.value for choice in each.choices}
        else each
        for each in form
    ]


def _with_folder(field: FormField, value: Any) -> FormField:
    """The field with a folder among its choices, as runs of the command line may name one."""
    if not field.choices or not str(value).startswith("/"):
        return field
    return replace(field, choices=(FieldChoice(str(value), str(value)), *field.choices))


def preset_options(run_type: RunType, preset: str) -> dict[str, OptionValue]:
    """The options of a preset."""
    return option_values(run_type.presets[preset])


def known_values(form: Sequence[FormField]) -> JsonObject:
    """The values in a form as texts, of many the first; what is not entered yet is missing."""
    return {
        each.name: value
        for each in form
        if (value := each.value or next(iter(each.values), "")) and each.control is not Control.MANY
    }


def field_labels(form: Sequence[FormField]) -> dict[str, str]:
    """The label of each field, and of device and priority."""
    return {each.name: each.label for each in form} | {
        QUEUE_FIELD: msg("Device"),
        PRIORITY_FIELD: msg("Priority"),
    }


def preset_texts(run_type: RunType, preset: str) -> dict[str, str]:
    """The values of the fields under a preset, for the page's script."""
    form = fill(_option_fields(run_type), preset_options(run_type, preset))
    return {each.name: each.value for each in form}


def keep_typed(
    form: Sequence[FormField], typed: FormData, faults: Mapping[str, str]
) -> list[FormField]:
    """The form with the values that were typed, and each fault beside its field."""
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


def read_run_form(run_type: RunType, typed: FormData) -> dict[str, object]:
    """The inputs and options in a form, as texts for `create_run` to check.

    A switch that is off sends nothing, so switches are recognised by the types of the options.
    """
    given: dict[str, object] = {}
    for each in run_type.inputs:
        texts = [str(text).strip() for text in typed.getlist(each.name)]
        given[each.name] = [text for text in texts if text]
    for option in option_fields(run_type.Options):
        if option.type is bool:
            given[option.name] = option.name in typed
        elif option.is_hidden:
            continue
        elif option.name == LABELS_OPTION:
            given[option.name] = ",".join(str(text).strip() for text in typed.getlist(option.name))
        elif option.name in typed:
            given[option.name] = str(typed[option.name]).strip()
    return given


def read_queue(typed: FormData) -> tuple[RunQueue, int]:
    """The device and the priority in a form.

    Raises:
        InvalidForm: with a fault for each invalid value.
    """
    faults = {}
    queue, priority = RunQueue.CPU, 0
    try:
        queue = RunQueue(str(typed.get(QUEUE_FIELD, RunQueue.CPU.value)))
    except ValueError:
        faults[QUEUE_FIELD] = msg("Choose CPU or GPU.")
    text = str(typed.get(PRIORITY_FIELD, "")).strip() or "0"
    try:
        priority = int(text)
        if not PRIORITY[0] <= priority <= PRIORITY[1]:
            raise ValueError
    except ValueError:
        faults[PRIORITY_FIELD] = msg(
            "Enter a whole number from %(priority)s to %(priority2)s.",
            priority=PRIORITY[0],
            priority2=PRIORITY[1],
        )
    if faults:
        raise InvalidForm(faults)
    return queue, priority
