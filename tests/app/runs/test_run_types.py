"""Run types: their options, and that their programs accept them."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
from sqlalchemy.orm import Session

from app.core.database import Database, now
from app.datasets.tables import DataKind
from app.migrations import upgrade
from app.registry.tables import ModelKind, ModelVersion
from app.runs.handlers.base import InputType, Preparation
from app.runs.handlers.import_data import DATA_SET, Layout
from app.runs.options import RunRefused, input_paths
from app.runs.program import program_command, write_options
from app.runs.run_types import RUN_TYPES
from app.runs.service import create_run
from app.runs.tables import Run, RunQueue
from app.settings import Settings
from ml.commands.main import app as ml_commands
from ml.data.importers.layouts import LAYOUTS
from ml.option_fields import option_fields
from tests.support.synthetic_set import data_version

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
    "validate-classifier": {"data": IMAGES, "bundle": CLASSIFIER, "training_data": IMAGES},
    "compare-classifiers": {"data": IMAGES, "bundle": CLASSIFIER, "reference": OTHER_CLASSIFIER},
    "audit-classifier": {"data": IMAGES, "bundle": CLASSIFIER},
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
            session.add(data_version(sha256, kind, name="some", images=1))
        for sha256 in (CLASSIFIER, OTHER_CLASSIFIER, RETIRED, CARD_ONLY):
            session.add(_model(sha256, ModelKind.CLASSIFIER))
        session.add(_model(GENERATOR, ModelKind.GENERATOR))
        session.get_one(ModelVersion, RETIRED).archived_at = now()
        session.get_one(ModelVersion, CARD_ONLY).folder = None
        session.add(
            Run(
                id=GAN_RUN,
                run_type="train-gan",
                options={},
                queue=RunQueue.CPU,
                requested_by="test",
            )
        )
        session.flush()
        yield session
        session.rollback()


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


def options_file(session: Session, run: Run, tmp_path: Path) -> Path:
    """The file that the run's program is started with."""
    settings = Settings(_env_file=None, home=tmp_path)
    prepared = RUN_TYPES[run.run_type].prepare(Preparation(session, settings, run, tmp_path))
    paths = input_paths(session, settings, run)
    (tmp_path / "run").mkdir(exist_ok=True)
    return write_options(run, tmp_path / "run", paths, prepared)


def told(session: Session, run: Run, tmp_path: Path) -> dict[str, Any]:
    """The options that the run's program is started with."""
    values: dict[str, Any] = json.loads(options_file(session, run, tmp_path).read_text())
    return values


@pytest.mark.parametrize("kind", RUN_TYPES)
def test_program_takes_the_options_of_its_run(session: Session, tmp_path: Path, kind: str) -> None:
    folder = tmp_path.parent / f"{tmp_path.name} images"
    folder.mkdir()
    (folder / "manifest.csv").touch()
    imports = {"folder": str(folder)} if kind == "import-data" else {}
    run = created(session, kind, **imports)
    file = options_file(session, run, tmp_path)
    words = program_command(file, RUN_TYPES[kind].program)[2:]
    path = len([word for word in words[:-2] if word[0] != "-"])
    context = command_of(RUN_TYPES[kind].program).make_context(kind, words[path:])
    assert str(context.params["out"]) == str((tmp_path / "run") / RUN_TYPES[kind].out)
    written = json.loads(file.read_text())
    assert {name for name in written if context.params[name] is None} == set()


def test_kinds_say_what_they_do() -> None:
    for kind in RUN_TYPES.values():
        assert kind.title
        assert kind.summary.endswith(".")
        for each in (*kind.inputs, *option_fields(kind.Options)):
            assert each.help.endswith(".")


def test_inputs_are_found_by_digest_and_the_data_version_is_named(
    session: Session, tmp_path: Path
) -> None:
    run = created(session, "train-classifier", synthetic=f"{SYNTHETIC},{SYNTHETIC}")
    assert run.data_sha256 == IMAGES
    assert run.options["synthetic"] == [SYNTHETIC]
    options = told(session, run, tmp_path)
    assert options["data"] == str(tmp_path / "data" / IMAGES)
    assert options["synthetic"] == [str(tmp_path / "data" / SYNTHETIC)]


def test_training_that_was_started_before_versions_had_names_makes_a_version(
    session: Session, tmp_path: Path
) -> None:
    run = created(session, "train-classifier")
    run.options = {"data": str(tmp_path), "epochs": 3}
    options = told(session, run, tmp_path)
    assert options["data"] == str(tmp_path)
    assert options["bundle_version"] == f"{run.created_at:%Y-%m-%d} {str(run.id)[:8]}"


def test_generators_are_given_by_file_and_classifiers_by_folder(
    session: Session, tmp_path: Path
) -> None:
    options = told(session, created(session, "synthesize"), tmp_path)
    file = tmp_path / "models" / GENERATOR / "generator.safetensors"
    assert options["generator"] == str(file)
    assert options["out"] == str(tmp_path / "run" / "set")
    options = told(session, created(session, "evaluate-classifier"), tmp_path)
    assert options["bundle"] == str(tmp_path / "models" / CLASSIFIER)


def test_run_can_be_measured_instead_of_its_generator(session: Session, tmp_path: Path) -> None:
    run = created(session, "evaluate-gan", generator="", run=str(GAN_RUN))
    options = told(session, run, tmp_path)
    assert options["run"] == str(tmp_path / "runs" / str(GAN_RUN))
    assert "generator" not in options


def test_options_reach_the_program_with_their_types(session: Session, tmp_path: Path) -> None:
    run = created(session, "train-gan", conditional="true", generator_norm=False, steps="7")
    options = told(session, run, tmp_path)
    assert (options["conditional"], options["generator_norm"]) == (True, False)
    assert (options["steps"], options["device"]) == (7, "cpu")


def test_seeds_take_the_place_of_a_number_of_images(session: Session, tmp_path: Path) -> None:
    run = created(session, "synthesize", seeds="3-9", privacy_check=False)
    options = told(session, run, tmp_path)
    assert (options["seeds"], options["privacy_check"]) == ("3-9", False)
    assert options.keys().isdisjoint({"count", "refuse_below", "against"})


def test_images_are_checked_against_the_training_data_of_their_generator(
    session: Session, tmp_path: Path
) -> None:
    faults = refused(session, "synthesize", {"generator": GENERATOR})
    assert "not registered here" in faults["against"]
    session.get_one(ModelVersion, GENERATOR).data_sha256 = IMAGES
    run = created(session, "synthesize", against="")
    assert run.options["against"] == IMAGES
    options = told(session, run, tmp_path)
    assert options["against"] == str(tmp_path / "data" / IMAGES)
    assert options["privacy_check"] is True


@pytest.mark.parametrize("kind", RUN_TYPES)
def test_options_of_a_run_can_be_given_again(session: Session, kind: str) -> None:
    extra = {"corrections": True} if kind == "import-data" else {}
    first = created(session, kind, **extra)
    again = create_run(session, kind, first.options, requested_by="test")
    assert again.options == first.options


def test_layouts_are_those_of_the_importers() -> None:
    assert get_args(Layout) == (DATA_SET, *LAYOUTS)


def test_presets_are_options_of_their_kind() -> None:
    for kind in RUN_TYPES.values():
        for preset in kind.presets.values():
            assert isinstance(preset, kind.Options)


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
        "data": "There is no data set 000000000000. Choose another one.",
        "size": "Expected a whole number from 16 to 512, got 'many'.",
        "steps": "Expected a whole number of 1 or more, got 0.",
        "penalty": "Expected a number of 0 or more, got 'inf'.",
        "beta1": "Expected a number from 0 to 0.9999, got 2.",
        "conditional": "Expected yes or no, got 'perhaps'.",
        "precision": "Expected one of float32, bfloat16, got 'float8'.",
        "epochs": faults["epochs"],
    }
    assert faults["epochs"].startswith("Unknown option. Expected one of augment, ")


@pytest.mark.parametrize(
    ("kind", "options", "faults"),
    [
        (
            "train-cat",
            {},
            {"run_type": "There is no run type 'train-cat'. Expected one of audit-classifier"},
        ),
        ("train-gan", {}, {"data": "Choose a data set."}),
        ("train-gan", {"data": 7}, {"data": "Expected a name, got 7."}),
        (
            "train-gan",
            {"data": "/nowhere"},
            {"data": "'/nowhere' is neither a registered data set"},
        ),
        ("train-gan", {"data": "x" * 9999}, {"data": "'xx"}),
        ("train-gan", {"data": SYNTHETIC}, {"data": "There is no data set bbbbbbbbbbbb."}),
        ("train-gan", {"data": f"{IMAGES},{IMAGES}"}, {"data": "Choose one data set, not 2."}),
        (
            "train-gan",
            {"data": IMAGES, "labels": "a\0"},
            {"labels": "A text cannot contain the NUL character."},
        ),
        (
            "evaluate-classifier",
            {"data": IMAGES, "bundle": GENERATOR},
            {"bundle": "There is no classifier ffffffffffff."},
        ),
        (
            "evaluate-classifier",
            {"data": IMAGES, "bundle": RETIRED},
            {"bundle": "one is archived. Choose another one."},
        ),
        (
            "evaluate-classifier",
            {"data": IMAGES, "bundle": CARD_ONLY},
            {"bundle": "Only the card of one is here."},
        ),
        ("evaluate-gan", {"data": IMAGES}, {"generator": "Choose either a generator or the run"}),
        ("evaluate-gan", {"data": IMAGES, "run": "7"}, {"run": "'7' is not the id of a run."}),
        (
            "evaluate-gan",
            {"data": IMAGES, "run": str(uuid.UUID(int=9))},
            {"run": "There is no train-gan run"},
        ),
        (
            "compare-classifiers",
            {"data": IMAGES, "bundle": CLASSIFIER, "reference": CLASSIFIER},
            {"reference": "Choose another classifier"},
        ),
        ("import-data", {}, {"name": "Enter a name", "folder": "Name a folder"}),
        (
            "import-data",
            {"name": "x", "upload": "../models"},
            {"upload": "This is not an uploaded archive."},
        ),
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
    with pytest.raises(Exception, match="contains the application's own files"):
        told(session, run, tmp_path)


def test_every_reference_is_resolved() -> None:
    used = {each.type for kind in RUN_TYPES.values() for each in kind.inputs}
    assert used == set(InputType)
