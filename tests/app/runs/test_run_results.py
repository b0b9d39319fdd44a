"""Runs whose programs are the real ones, on the demonstration set: their results."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.core.database import Database
from app.datasets.tables import DataVersion
from app.datasets.versions import data_folder, ensure_demonstration, find_data
from app.migrations import migrated_database
from app.registry.queries import list_models
from app.registry.registration import register_released
from app.registry.tables import ModelKind
from app.runs import queue as runs
from app.runs.service import create_run
from app.runs.tables import Run, RunQueue, RunStatus
from app.settings import Settings
from app.worker.worker import Worker
from ml.data.versioning import verify_version


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(_env_file=None, home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def database(settings: Settings) -> Iterator[Database]:
    database = migrated_database(settings)
    yield database
    database.close()


@pytest.fixture(scope="module")
def demonstration(settings: Settings, database: Database) -> DataVersion:
    with database.session() as session:
        return ensure_demonstration(session, settings)


def done(database: Database, settings: Settings, what: str, **options: Any) -> Run:
    """Have a run done in this process."""
    worker = Worker(settings, list(RunQueue))
    with database.session() as session:
        run_id = create_run(session, what, options, requested_by="test").id
    worker.execute(run_id)
    worker.database.close()
    with database.session() as session:
        run = runs.get_run(session, run_id)
    assert run.status is RunStatus.SUCCEEDED, run.log_tail
    return run


def test_imported_images_are_a_version_that_grew_out_of_its_base(
    settings: Settings, database: Database, demonstration: DataVersion, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    images = sorted(data_folder(settings, demonstration).rglob("images/**/*.png"))
    for image in images[:3]:
        target = folder / "normal" / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Turned upside down, it is an image that the base does not have.
        with Image.open(image) as picture:
            picture.transpose(Image.Transpose.ROTATE_180).save(target)
    run = done(
        database,
        settings,
        "import-data",
        name="grown",
        kind="folders",
        folder=str(folder),
        base=demonstration.sha256,
    )
    assert run.data_sha256 == demonstration.sha256
    with database.session() as session:
        version = find_data(session, run.result["data"])
    assert (version.name, version.run_id) == ("grown", run.id)
    assert version.parent_sha256 == demonstration.sha256
    assert version.images == run.result["images"] > demonstration.images
    verify_version(data_folder(settings, version))
    # What is a data version now is not kept a second time.
    assert not (settings.home / "runs" / str(run.id) / "set").exists()


def test_measuring_a_classifier_tells_its_metrics(
    settings: Settings, database: Database, demonstration: DataVersion
) -> None:
    register_released(database, settings)
    with database.session() as session:
        (released,) = list_models(session, ModelKind.CLASSIFIER)
    run = done(
        database,
        settings,
        "evaluate-classifier",
        data=demonstration.sha256,
        bundle=released.sha256,
    )
    accuracy = run.result["accuracy"]
    assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    assert run.result["images"] > 0
    assert (settings.home / "runs" / str(run.id) / "report.html").is_file()
