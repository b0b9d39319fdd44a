"""Check the inputs and options of a run, and find the files of its inputs."""

import uuid
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue
from sqlalchemy.orm import Session

from app.core.errors import InvalidForm
from app.datasets.tables import DataKind, DataVersion
from app.registry.files import WEIGHTS, model_folder
from app.registry.tables import ModelKind, ModelVersion
from app.runs.data_checks import data_faults
from app.runs.handlers.base import Input, InputType, RunType
from app.runs.run_types import RUN_TYPES
from app.runs.tables import Run
from app.settings import Settings
from ml.data.manifest import MANIFEST
from ml.json_model import JsonObject
from ml.option_fields import InvalidOptions, option_fields, option_values, validated_options
from ml.texts import msg

_DIGEST_LENGTH = 64
_DATA_KINDS = {InputType.DATA: DataKind.IMAGES, InputType.SYNTHETIC: DataKind.SYNTHETIC}
_MODEL_KINDS = {
    InputType.CLASSIFIER: ModelKind.CLASSIFIER,
    InputType.GENERATOR: ModelKind.GENERATOR,
}
_NAMES = {
    InputType.DATA: msg("data set"),
    InputType.SYNTHETIC: msg("synthetic data set"),
    InputType.CLASSIFIER: "classifier",
    InputType.GENERATOR: "generator",
    InputType.RUN: "run",
}


class RunRefused(InvalidForm):
    """A run with invalid options; `faults` holds a sentence for each, by name."""

    title = msg("The run cannot be started")
    default_code = "bad-run"


def checked_options(session: Session, run_type: str, given: Mapping[str, object]) -> JsonObject:
    """All inputs and options of a run, with their types and defaults, as its row stores them.

    What a row stores can be given again.

    Args:
        session: the database, where inputs are registered.
        run_type: a name in `RUN_TYPES`.
        given: inputs by digest or, of runs, id; a data set also by its folder. Texts become the
            numbers and truth values that they say.

    Raises:
        RunRefused: with a fault for every invalid value.

    """
    if run_type not in RUN_TYPES:
        expected = ", ".join(sorted(RUN_TYPES))
        raise RunRefused(
            {
                "run_type": msg(
                    "There is no run type %(run_type)s. Expected one of %(expected)s.",
                    run_type=f"{run_type!r}",
                    expected=expected,
                )
            }
        )
    of = RUN_TYPES[run_type]
    faults = _unknown(of, given)
    checked: JsonObject = {}
    for each in of.inputs:
        try:
            checked[each.name] = _checked_input(session, each, given.get(each.name))
        except ValueError as fault:
            faults[each.name] = str(fault)
    try:
        options = validated_options(of.Options, of.known_options(dict(given)))
        checked |= option_values(options)
    except InvalidOptions as refused:
        faults |= refused.faults
    faults |= {
        name: "A text cannot contain the NUL character. Remove it."
        for name, value in checked.items()
        if isinstance(value, str) and "\0" in value
    }
    if faults := faults or of.validate(checked) or data_faults(session, of, checked):
        raise RunRefused(faults)
    further, faults = of.default_inputs(session, checked)
    if faults:
        raise RunRefused(faults)
    return checked | further


def _unknown(of: RunType, given: Mapping[str, object]) -> dict[str, str]:
    known = [each.name for each in of.inputs]
    known += [each.name for each in option_fields(of.Options)]
    expected = ", ".join(sorted(known))
    return {
        name: msg("Unknown option. Expected one of %(expected)s.", expected=expected)
        for name in given
        if name not in known
    }


def _checked_input(session: Session, wanted: Input, value: object) -> JsonValue:
    """What an input names, once it is found; [] or "" where it is not required and names nothing.

    Raises:
        ValueError: with a sentence.
    """
    texts = names_in(value)
    if not texts and wanted.required:
        raise ValueError(f"Choose a {_NAMES[wanted.type]}.")
    if len(texts) > 1 and not wanted.many:
        raise ValueError(f"Choose one {_NAMES[wanted.type]}, not {len(texts)}.")
    found = [_found(session, wanted, text) for text in texts]
    return [*dict.fromkeys(found)] if wanted.many else "".join(found)


def names_in(value: object) -> list[str]:
    """The names in an input: a list, or a text with commas between.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    if isinstance(value, Path):
        return [str(value)]
    if not isinstance(value, str | None):
        raise ValueError(f"Expected a name, got {value!r}.")
    return [name for name in (value or "").split(",") if name]


def _found(session: Session, wanted: Input, name: str) -> str:
    if wanted.type is InputType.RUN:
        return _found_run(session, wanted, name)
    if wanted.type in _MODEL_KINDS:
        return _found_model(session, wanted.type, name)
    if not _is_digest(name):
        return _data_folder(name)
    version = session.get(DataVersion, name)
    if version is None or version.kind != _DATA_KINDS[wanted.type]:
        raise ValueError(_not_registered(wanted.type, name))
    return name


def _found_run(session: Session, wanted: Input, name: str) -> str:
    try:
        run = session.get(Run, uuid.UUID(name))
    except ValueError:
        raise ValueError(f"{name!r} is not the id of a run.") from None
    if run is None or (wanted.run_type and run.run_type != wanted.run_type):
        raise ValueError(f"There is no {wanted.run_type} run {name}. See the list of runs.")
    return str(run.id)


def _found_model(session: Session, wanted: InputType, name: str) -> str:
    model = session.get(ModelVersion, name)
    if model is None or model.kind != _MODEL_KINDS[wanted]:
        raise ValueError(_not_registered(wanted, name))
    if model.archived_at:
        raise ValueError(f"{model.version} is archived. Choose another one.")
    if model.folder is None:
        raise ValueError(f"Only the card of {model.version} is here. Choose another one.")
    return name


def _not_registered(wanted: InputType, name: str) -> str:
    return msg(
        "There is no %(wanted)s %(name)s. Choose another one.",
        wanted=_NAMES[wanted],
        name=name[:12],
    )


def _is_digest(name: str) -> bool:
    return len(name) == _DIGEST_LENGTH and set(name) <= set("0123456789abcdef")


def _data_folder(name: str) -> str:
    try:
        folder = Path(name).resolve()
        if (folder / MANIFEST).is_file():
            return str(folder)
    except (OSError, ValueError):  # a path too long, or with a NUL
        pass
    raise ValueError(
        f"{name!r:.200} is neither a registered data set nor a folder with a {MANIFEST}."
    )


def data_of(run_type: RunType, options: JsonObject) -> str | None:
    """The data set version that a run works on; None where it is not registered, or has none."""
    named = [options[each.name] for each in run_type.inputs if each.type is InputType.DATA]
    return next((name for name in named if isinstance(name, str) and _is_digest(name)), None)


def input_paths(session: Session, settings: Settings, run: Run) -> dict[str, str | list[str]]:
    """Where the program finds each input that its run names.

    Raises:
        Conflict: a model's files are not here.
    """
    found: dict[str, str | list[str]] = {}
    for each in RUN_TYPES[run.run_type].inputs:
        names = names_in(run.options.get(each.name))
        paths = [str(_path(session, settings, each.type, name)) for name in names]
        if paths:
            found[each.name] = paths if each.many else paths[0]
    return found


def _path(session: Session, settings: Settings, wanted: InputType, name: str) -> Path:
    home = settings.home_folder
    if wanted is InputType.RUN:
        return home.run(name)
    if wanted in _DATA_KINDS:
        version = session.get(DataVersion, name)
        return home.resolve(version.folder) if version else Path(name)
    folder = model_folder(settings, session.get_one(ModelVersion, name))
    # The generator's commands take its file.
    return folder / WEIGHTS if wanted is InputType.GENERATOR else folder
