"""A past prediction is recomputed and proved equal, or the replay says what differs."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app.accounts.api_keys import create_key
from app.cli import xray
from app.core.errors import NotFound
from app.main import create_app
from app.registry.tables import ModelVersion
from app.screenings.replay import Replay, replay
from app.screenings.stored_images import image_key
from app.screenings.tables import Screening
from app.settings import Settings
from ml.classifier.bundle import PRETRAINED
from tests.support.images import png, synthetic_image
from tests.support.tiny_models import own_database, settings_for, write_classifier


@dataclass
class World:
    """An application that screens with the released classifier."""

    app: FastAPI
    settings: Settings
    clinic: TestClient

    def screen(self, content: bytes) -> uuid.UUID:
        answer = self.clinic.post("/api/v1/screenings", files={"image": ("a.png", content)})
        assert answer.status_code == 201, answer.text
        return uuid.UUID(answer.json()["id"])

    def replay(self, id: uuid.UUID, settings: Settings | None = None) -> Replay:
        services = self.app.state.services
        with services.database.sessions() as session:
            return replay(session, settings or self.settings, services.storage, id)

    def change(self, id: uuid.UUID, **values: object) -> None:
        with self.app.state.services.database.session() as session:
            row = session.get_one(Screening, id)
            for name, value in values.items():
                setattr(row, name, value)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("replay")
    with own_database("sqlite", folder) as url:
        settings = settings_for(url, folder / "home", bundle=PRETRAINED)
        app = create_app(settings)
        with TestClient(app):
            with app.state.services.database.session() as session:
                key = create_key(session, "North", "test")
            client = TestClient(app, headers={"Authorization": f"Bearer {key}"})
            yield World(app, settings, client)


@pytest.fixture
def content() -> bytes:
    return png(synthetic_image(np.random.default_rng(3), 400, 360))


def test_prediction_is_reproduced(world: World, content: bytes) -> None:
    found = world.replay(world.screen(content))
    assert found.is_equal
    assert found.same_input is True
    assert found.largest_difference == pytest.approx(0, abs=1e-6)


def test_prediction_of_deeper_images_names_the_difference(world: World) -> None:
    grey = synthetic_image(np.random.default_rng(4), 400, 360).astype(np.uint16) * 257
    grey += np.random.default_rng(5).integers(0, 200, size=grey.shape, dtype=np.uint16)
    found = world.replay(world.screen(png(grey)))
    assert found.same_input in (True, False)
    assert found.largest_difference is not None
    assert found.largest_difference < 0.05
    if not found.same_input:
        assert any("16 bits" in note for note in found.notes)


def test_what_differs_is_named(world: World, content: bytes) -> None:
    id = world.screen(content)  # noqa: A001
    world.change(id, decision="covid", probabilities={"covid": 0.9, "pneumonia": 0.1, "normal": 0})
    found = world.replay(id)
    assert not found.is_equal
    assert any(fault.startswith("A probability differs by") for fault in found.faults)
    assert any("The decision was covid" in fault for fault in found.faults)


def test_missing_image_and_missing_classifier_are_named(
    world: World, content: bytes, tmp_path: Path
) -> None:
    id = world.screen(content)  # noqa: A001
    world.app.state.services.storage.delete(image_key(id))
    assert "The stored image is missing" in world.replay(id).faults[0]
    card = write_classifier(tmp_path / "gone", version="gone", answer="normal")
    with world.app.state.services.database.session() as session:
        session.add(ModelVersion(sha256=card.sha256, version="gone", card=card.as_json()))
    id = world.screen(content)  # noqa: A001
    world.change(id, model_sha256=card.sha256, model_version="gone")
    (fault,) = world.replay(id).faults
    assert fault.startswith("The classifier gone")
    assert "xray model register" in fault


def test_deleted_screening_says_so(world: World, content: bytes) -> None:
    id = world.screen(content)  # noqa: A001
    assert world.clinic.delete(f"/api/v1/screenings/{id}").status_code == 204
    with pytest.raises(NotFound, match="was deleted on"):
        world.replay(id)
    with pytest.raises(NotFound, match="There is no screening"):
        world.replay(uuid.uuid4())


def test_command_proves_or_refuses(
    world: World, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XRAY_HOME", str(world.settings.home))
    monkeypatch.setenv("XRAY_DATABASE_URL", world.settings.database_url)
    id = world.screen(content)  # noqa: A001
    result = CliRunner().invoke(xray, ["replay", str(id)])
    assert result.exit_code == 0, result.output
    assert "The prediction is reproduced" in result.output
    world.change(id, decision="covid")
    assert CliRunner().invoke(xray, ["replay", str(id)]).exit_code == 1
    assert "is not the id" in str(CliRunner().invoke(xray, ["replay", "x"]).exception)
