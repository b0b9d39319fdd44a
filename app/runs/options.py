"""Whether a run can be made of what a person gave, and what its program is told of it."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.core.errors import BadForm
from app.datasets.tables import DataKind, DataVersion
from app.registry.tables import ModelKind, ModelVersion
from app.runs.kinds import KINDS, Input, Kind, Ref
from app.runs.tables import Run
from app.settings import Settings
from ml.data.manifest import MANIFEST
from ml.option_fields import InvalidOptions, option_values, validated_options

_DIGEST_LENGTH = 64
_DATA_KINDS = {Ref.DATA: DataKind.IMAGES, Ref.SYNTHETIC: DataKind.SYNTHETIC}
_MODEL_KINDS = {Ref.CLASSIFIER: ModelKind.CLASSIFIER, Ref.GENERATOR: ModelKind.GENERATOR}
_NAMES = {
    Ref.DATA: "data set",
    Ref.SYNTHETIC: "set of synthetic images",
    Ref.CLASSIFIER: "classifier",
    Ref.GENERATOR: "generator",
    Ref.RUN: "run",
}


class RunRefused(BadForm):
    """The run asked for makes no sense; `faults` says why, by option."""

    title = "The run cannot be started"
    default_code = "bad-run"


def checked_options(session: Session, kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All inputs and options of a run, with their types and defaults, as its row keeps them.

    What a row keeps can be given again.

    Args:
        session: the database, where inputs are registered.
        kind: a name in `KINDS`.
        given: inputs by digest or, of runs, id; a data set also by its folder. Texts are taken for
            the numbers and truth values that they say.

    Raises:
        RunRefused: with a fault for each that makes no sense.

    """
    if kind not in KINDS:
        expected = ", ".join(sorted(KINDS))
        raise RunRefused({"kind": f"no kind of run is called {kind!r}: expected {expected}"})
    of = KINDS[kind]
    faults: dict[str, str] = {}
    checked: dict[str, Any] = {}
    for each in of.inputs:
        try:
            checked[each.name] = _checked_input(session, each, given.get(each.name))
        except ValueError as fault:
            faults[each.name] = str(fault)
    inputs = {each.name for each in of.inputs}
    chosen = {name: value for name, value in given.items() if name not in inputs}
    try:
        checked |= option_values(validated_options(of.options, chosen))
    except InvalidOptions as refused:
        faults |= refused.faults
    faults |= {
        name: "A text cannot contain the NUL character. Remove it."
        for name, value in checked.items()
        if isinstance(value, str) and "\0" in value
    }
    if not faults and of.faults:
        faults = of.faults(checked)
    if faults:
        raise RunRefused(faults)
    return checked


def _checked_input(session: Session, wanted: Input, value: Any) -> Any:
    """What an input names, once it is found; [] or "" where it names nothing and need not."""
    texts = _texts(value)
    if not texts and wanted.required:
        raise ValueError(f"choose a {_NAMES[wanted.ref]}")
    if len(texts) > 1 and not wanted.many:
        raise ValueError(f"choose one {_NAMES[wanted.ref]}, not {len(texts)}")
    found = [_found(session, wanted, text) for text in texts]
    return list(dict.fromkeys(found)) if wanted.many else "".join(found)


def _texts(value: Any) -> list[str]:
    """The names in an input: a list, or a text with commas between."""
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    if isinstance(value, Path):
        return [str(value)]
    if not isinstance(value, str | None):
        raise ValueError(f"expected a name, got {value!r}")
    return [name for name in (value or "").split(",") if name]


def _found(session: Session, wanted: Input, name: str) -> str:
    ref = wanted.ref
    if ref in _DATA_KINDS and not _is_digest(name):
        return _data_folder(name)
    if ref is Ref.RUN:
        run = session.get(Run, _run_id(name))
        if run is None or (wanted.of and run.kind != wanted.of):
            raise ValueError(f"there is no {wanted.of} run {name}: see the list of runs")
        return str(run.id)
    if ref in _DATA_KINDS:
        version = session.get(DataVersion, name)
        is_there = version is not None and version.kind == _DATA_KINDS[ref]
    else:
        model = session.get(ModelVersion, name)
        is_there = model is not None and model.kind == _MODEL_KINDS[ref]
        if is_there and model and model.archived_at:
            raise ValueError(f"{model.version} is archived: choose another one")
        if is_there and model and model.folder is None:
            raise ValueError(f"of {model.version} only the card is here: choose another one")
    if not is_there:
        raise ValueError(f"no {_NAMES[ref]} {name[:12]} is registered: choose another one")
    return name


def _is_digest(name: str) -> bool:
    return len(name) == _DIGEST_LENGTH and set(name) <= set("0123456789abcdef")


def _run_id(name: str) -> uuid.UUID:
    try:
        return uuid.UUID(name)
    except ValueError:
        raise ValueError(f"{name!r} is no id of a run") from None


def _data_folder(name: str) -> str:
    try:
        folder = Path(name).resolve()
        if (folder / MANIFEST).is_file():
            return str(folder)
    except (OSError, ValueError):  # a path too long, or with a NUL
        pass
    raise ValueError(f"{name!r} is no registered data set, and no folder with a {MANIFEST}")


def data_of(kind: Kind, options: Mapping[str, Any]) -> str | None:
    """The data version that a run works on; None where it is not registered, or has none."""
    named = [options[each.name] for each in kind.inputs if each.ref is Ref.DATA]
    return next((name for name in named if _is_digest(name)), None)


def input_paths(session: Session, settings: Settings, run: Run) -> dict[str, str | list[str]]:
    """Where the program finds each input that its run names, and no other.

    Raises:
        Conflict: a model's files are not here.
    """
    found: dict[str, str | list[str]] = {}
    for each in KINDS[run.kind].inputs:
        names = _texts(run.options.get(each.name))
        paths = [str(_path(session, settings, each.ref, name)) for name in names]
        if paths:
            found[each.name] = paths if each.many else paths[0]
    return found


def _path(session: Session, settings: Settings, ref: Ref, name: str) -> Path:
    from app.registry.files import WEIGHTS, model_folder

    home = settings.home_folder
    if ref is Ref.RUN:
        return home.run(name)
    if ref in _DATA_KINDS:
        version = session.get(DataVersion, name)
        return home.resolve(version.folder) if version else Path(name)
    folder = model_folder(settings, session.get_one(ModelVersion, name))
    # The generator's commands take its file.
    return folder / WEIGHTS if ref is Ref.GENERATOR else folder
