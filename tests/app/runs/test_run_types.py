"""Kinds of runs: what they may be told, and that their programs take it."""

import uuid
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
from sqlalchemy.orm import Session

from app.core.database import Database, now
from app.datasets.tables import DataKind, DataVersion
from app.migrations import upgrade
from app.registry.tables import ModelKind, ModelVersion
from app.runs import kind_options
from app.runs.handlers import Preparation
from app.runs.kinds import KINDS, Ref
from app.runs.options import RunRefused, input_paths
from app.runs.program import trainer_command
from app.runs.service import create_run
from app.runs.tables import Run, RunQueue
from app.settings import Settings
from ml.commands.main import app as ml_commands
from ml.data.importers.layouts import LAYOUTS

IMAGES, SYNTHETIC = "a" * 64, "b" * 64
CLASSIFIER, OTHER_CLASSIFIER, RETIRED, CARD_ONLY = ("c" * 64, "d" * 64, "e" * 64, "9" * 64)
GENERATOR = "f" * 64
GAN_RUN = uuid.UUID(int=7)

INPUTS: dict[str, dict[str, Any]] = {
    "train-gan": {"data": IMAGES},
    "evaluate-gan": {"data": IMAGES, "generator": GENERATOR},
    "synthesize": {"generator": GENERATOR, "against": IMAGES},
    "train-classifier": {"data": IMAGES, "synthetic": [SYNTHETIC]},
    "evaluate-classifier": {"data": IMAGES, "bundle": CLASSIFIER},
    "compare-classifiers": {"data": IMAGES, "bundle": CLASSIFIER, "reference": OTHER_CLASSIFIER},
    "compare-conditions": {"data": IMAGES, "synthetic": SYNTHETIC},
    "import-data": {"base": IMAGES, "name": "more images"},
}


@pytest.fixture(scope="module")
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    upgrade(database.engine)
    yield database
    database.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """Data sets, models and a run to refer to; nothing of it is kept."""
    with database.sessions() as session:
        for sha256, kind in ((IMAGES, DataKind.IMAGES), (SYNTHETIC, DataKind.SYNTHETIC)):
            session.add(_data(sha256, kind))
        for sha256 in (CLASSIFIER, OTHER_CLASSIFIER, RETIRED, CARD_ONLY):
            session.add(_model(sha256, ModelKind.CLASSIFIER))
        session.add(_model(GENERATOR, ModelKind.GENERATOR))
        session.get_one(ModelVersion, RETIRED).archived_at = now()
        session.get_one(ModelVersion, CARD_ONLY).folder = None
        session.add(
            Run(id=GAN_RUN, kind="train-gan", options={}, queue=RunQueue.CPU, requested_by="test")
        )
        session.flush()
        yield session
        session.rollback()


def _data(sha256: str, kind: DataKind) -> DataVersion:
    return DataVersion(
        sha256=sha256,
        kind=kind,
        name="some",
        folder=f"data/{sha256}",
        images=1,
        summary={},
        created_by="test",
    )


def _model(sha256: str, kind: ModelKind) -> ModelVersion:
    return ModelVersion(
        sha256=sha256, kind=kind, version="one", card={}, parents=[], folder=f"models/{sha256}"
    )


def refused(session: Session, kind: str, options: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(RunRefused) as refusal:
        create_run(session, kind, options, requested_by="test")
    return refusal.value.faults


def created(session: Session, kind: str, **options: Any) -> Run:
    return create_run(session, kind, INPUTS[kind] | options, requested_by="test")


def command_of(program: tuple[str, ...]) -> Any:
    """The command of the models' command line that a program is."""
    assert program[0] == "ml"
    command: Any = typer.main.get_command(ml_commands)
    for word in program[1:]:
        if word.startswith("--"):
            break
        command = command.commands[word]
    return command


def flags_of(command: Any) -> set[str]:
    return {
        flag
        for parameter in command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }


def told(session: Session, run: Run, tmp_path: Path) -> list[str]:
    """The words after `python -m`."""
    settings = Settings(_env_file=None, home=tmp_path)
    prepare = KINDS[run.kind].prepare
    prepared = prepare(Preparation(session, settings, run, tmp_path)) if prepare else {}
    paths = input_paths(session, settings, run)
    return trainer_command(run, tmp_path / "run", paths, prepared)[2:]


@pytest.mark.parametrize("kind", KINDS)
def test_every_flag_of_a_run_is_one_of_its_command(
    session: Session, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path.parent / f"{tmp_path.name} images"
    folder.mkdir()
    imports = {"folder": str(folder)} if kind == "import-data" else {}
    run = created(session, kind, **imports)
    words = told(session, run, tmp_path)
    command = command_of(KINDS[kind].program)
    assert {word.partition("=")[0] for word in words if word[0] == "-"} <= flags_of(command)
    # And each has a value that the command takes.
    path = len([word for word in KINDS[kind].program if word[0] != "-"])
    context = command.make_context(kind, words[path:])
    assert context.params["out"] == tmp_path / "run" / KINDS[kind].out


@pytest.mark.parametrize("kind", KINDS)
def test_options_have_the_defaults_and_ranges_of_their_command(kind: str) -> None:
    parameters = {each.name: each for each in command_of(KINDS[kind].program).params}
    for option in fields(KINDS[kind].options):
        parameter: Any = parameters.get(option.name)
        if parameter is None or parameter.default is None:
            continue
        assert option.default == parameter.default, option.name
        low = parameter.min
        assert low is None or option.metadata["min"] >= low, option.name


def test_kinds_say_what_they_do() -> None:
    for kind in KINDS.values():
        assert kind.title
        assert kind.summary.endswith(".")
        for each in (*kind.inputs, *fields(kind.options)):
            help_text = each.help if hasattr(each, "help") else each.metadata["help"]
            assert help_text.endswith(".")


def test_inputs_are_found_by_digest_and_the_data_version_is_named(
    session: Session, tmp_path: Path
) -> None:
    run = created(session, "train-classifier", synthetic=f"{SYNTHETIC},{SYNTHETIC}")
    assert run.data_sha256 == IMAGES
    assert run.options["synthetic"] == [SYNTHETIC]
    words = told(session, run, tmp_path)
    assert f"--data={tmp_path / 'data' / IMAGES}" in words
    assert f"--synthetic={tmp_path / 'data' / SYNTHETIC}" in words


def test_training_that_was_started_before_versions_had_names_makes_a_version(
    session: Session, tmp_path: Path
) -> None:
    run = created(session, "train-classifier")
    run.options = {"data": str(tmp_path), "epochs": 3}
    words = told(session, run, tmp_path)
    assert f"--data={tmp_path}" in words
    assert f"--bundle-version={run.created_at:%Y-%m-%d} {str(run.id)[:8]}" in words


def test_generators_are_given_by_file_and_classifiers_by_folder(
    session: Session, tmp_path: Path
) -> None:
    words = told(session, created(session, "synthesize"), tmp_path)
    file = tmp_path / "models" / GENERATOR / "generator.safetensors"
    assert f"--generator={file}" in words
    assert f"--out={tmp_path / 'run' / 'set'}" in words
    words = told(session, created(session, "evaluate-classifier"), tmp_path)
    assert f"--bundle={tmp_path / 'models' / CLASSIFIER}" in words


def test_run_can_be_measured_instead_of_its_generator(session: Session, tmp_path: Path) -> None:
    run = created(session, "evaluate-gan", generator="", run=str(GAN_RUN))
    words = told(session, run, tmp_path)
    assert f"--run={tmp_path / 'runs' / str(GAN_RUN)}" in words
    assert not [word for word in words if word.startswith("--generator")]


def test_truth_values_become_the_flag_or_its_opposite(session: Session, tmp_path: Path) -> None:
    run = created(session, "train-gan", conditional="true", generator_norm=False)
    words = told(session, run, tmp_path)
    assert {"--conditional", "--no-generator-norm"} <= set(words)


def test_seeds_take_the_place_of_a_number_of_images(session: Session, tmp_path: Path) -> None:
    words = told(session, created(session, "synthesize", seeds="3-9", against=""), tmp_path)
    assert "--seeds=3-9" in words
    assert "--no-privacy-check" in words
    assert not [word for word in words if word.startswith(("--count", "--refuse-below"))]


@pytest.mark.parametrize("kind", KINDS)
def test_options_of_a_run_can_be_given_again(session: Session, kind: str) -> None:
    extra = {"corrections": True} if kind == "import-data" else {}
    first = created(session, kind, **extra)
    again = create_run(session, kind, first.options, requested_by="test")
    assert again.options == first.options


def test_layouts_are_those_of_the_importers() -> None:
    assert tuple(LAYOUTS) == kind_options.LAYOUTS


def test_presets_are_options_of_their_kind() -> None:
    for kind in KINDS.values():
        for preset in kind.presets.values():
            assert isinstance(preset, kind.options)


def test_all_faults_are_told_at_once_by_option(session: Session) -> None:
    faults = refused(
        session,
        "train-gan",
        {
            "data": "0" * 64,
            "size": "many",
            "steps": 0,
            "penalty": "inf",
            "beta1": 2,
            "conditional": "perhaps",
            "precision": "float8",
            "epochs": 3,
        },
    )
    assert faults == {
        "data": "no data set 000000000000 is registered: choose another one",
        "size": "expected a whole number from 16 to 512, got 'many'",
        "steps": "expected a whole number of 1 or more, got 0",
        "penalty": "expected a number of 0 or more, got 'inf'",
        "beta1": "expected a number from 0 to 0.9999, got 2",
        "conditional": "expected yes or no, got 'perhaps'",
        "precision": "expected one of float32, bfloat16, got 'float8'",
        "epochs": faults["epochs"],
    }
    assert faults["epochs"].startswith("unknown: train-gan takes augment, ")


@pytest.mark.parametrize(
    ("kind", "options", "faults"),
    [
        (
            "train-cat",
            {},
            {"kind": "no kind of run is called 'train-cat': expected compare-conditions"},
        ),
        ("train-gan", {}, {"data": "choose a data set"}),
        ("train-gan", {"data": 7}, {"data": "expected a name, got 7"}),
        ("train-gan", {"data": "/nowhere"}, {"data": "'/nowhere' is no registered data set"}),
        ("train-gan", {"data": "x" * 9999}, {"data": "'xx"}),
        ("train-gan", {"data": SYNTHETIC}, {"data": "no data set bbbbbbbbbbbb is registered"}),
        ("train-gan", {"data": f"{IMAGES},{IMAGES}"}, {"data": "choose one data set, not 2"}),
        ("train-gan", {"data": IMAGES, "labels": "a\0"}, {"labels": "expected a text, got"}),
        (
            "evaluate-classifier",
            {"data": IMAGES, "bundle": GENERATOR},
            {"bundle": "no classifier ffffffffffff is registered"},
        ),
        (
            "evaluate-classifier",
            {"data": IMAGES, "bundle": RETIRED},
            {"bundle": "one is archived: choose another one"},
        ),
        (
            "evaluate-classifier",
            {"data": IMAGES, "bundle": CARD_ONLY},
            {"bundle": "of one only the card is here"},
        ),
        ("evaluate-gan", {"data": IMAGES}, {"generator": "choose a generator or the run"}),
        ("evaluate-gan", {"data": IMAGES, "run": "7"}, {"run": "'7' is no id of a run"}),
        (
            "evaluate-gan",
            {"data": IMAGES, "run": str(uuid.UUID(int=9))},
            {"run": "there is no train-gan run"},
        ),
        (
            "compare-classifiers",
            {"data": IMAGES, "bundle": CLASSIFIER, "reference": CLASSIFIER},
            {"reference": "choose another classifier"},
        ),
        ("import-data", {}, {"name": "give the data set a name", "folder": "name a folder"}),
        ("import-data", {"name": "x", "upload": "../models"}, {"upload": "this is not the name"}),
    ],
)
def test_senseless_run_is_refused(
    session: Session, kind: str, options: dict[str, Any], faults: dict[str, str]
) -> None:
    found = refused(session, kind, options)
    assert found.keys() == faults.keys()
    for name, beginning in faults.items():
        assert found[name].startswith(beginning)


def test_folder_of_the_application_itself_is_no_data_set(session: Session, tmp_path: Path) -> None:
    run = created(session, "import-data", folder=str(tmp_path))
    with pytest.raises(Exception, match="has the application's own files"):
        told(session, run, tmp_path)


def test_every_reference_is_resolved() -> None:
    used = {each.ref for kind in KINDS.values() for each in kind.inputs}
    assert used == set(Ref)
