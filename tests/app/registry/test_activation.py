"""Putting classifiers active while images are answered: nothing fails, nothing is mixed up."""

import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

import app.registry.serving
from app.accounts.api_keys import create_key
from app.accounts.owner import Owner
from app.core.audit import AuditEvent
from app.core.database import Database
from app.core.errors import NotReady
from app.main import create_app
from app.registry.activation import activate
from app.registry.files import model_folder
from app.registry.queries import active_sha256, find_model, list_models
from app.registry.registration import register_classifier
from app.registry.serving import ActiveClassifier
from app.registry.tables import ModelKind
from app.screenings.decoder import DecodedImage
from app.settings import Settings
from ml.classifier.bundle import read_card
from ml.classifier.card import ModelCard
from tests.support.tiny_models import DATABASES, own_database, settings_for, write_classifier

BY = "user:anna"
REASON = "two classifiers take turns in this test"
ANSWERS = {"covid": 32, "normal": 48}  # what each of the two says, and the side of its images


@pytest.fixture(scope="module", params=DATABASES)
def settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("activation")
    write_classifier(folder / "released", version="released", answer="pneumonia")
    with own_database(request.param, folder) as url:
        yield settings_for(url, folder / "home", bundle=folder / "released")


@pytest.fixture(scope="module")
def pair(settings: Settings) -> list[ModelCard]:
    """Two registered classifiers of different input sizes and answers."""
    cards = []
    database = Database(settings.effective_database_url)
    for answer, size in ANSWERS.items():
        folder = settings.home.parent / answer
        cards.append(write_classifier(folder, version=answer, answer=answer, size=size))
        with database.session() as session:
            register_classifier(session, settings, folder, run=None, by=BY)
    database.close()
    return cards


@contextmanager
def running(settings: Settings) -> Iterator[FastAPI]:
    app = create_app(settings)
    with TestClient(app):
        yield app


@pytest.fixture(scope="module")
def application(settings: Settings, pair: list[ModelCard]) -> Iterator[FastAPI]:
    with running(settings) as app:
        yield app


def activate_model(database: Database, settings: Settings, card: ModelCard) -> None:
    with database.session() as session:
        if active_sha256(session) != card.sha256:
            model = find_model(session, card.sha256)
            activate(session, settings, model, by=BY, override=REASON)


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


class Load:
    """Threads that send one image after the other, and what was answered."""

    def __init__(self, app: FastAPI, image: bytes):
        with app.state.services.database.session() as session:
            key = create_key(session, f"load {time.monotonic_ns()}", "test")
        self._client = TestClient(app, headers={"Authorization": f"Bearer {key}"})
        self._image = image
        self._stop = threading.Event()
        self.failed: list[tuple[int, str]] = []
        self.answers: Counter[tuple[str, str]] = Counter()  # (SHA-256, label)
        self.probes: Counter[int] = Counter()

    def send(self) -> None:
        while not self._stop.is_set():
            answer = self._client.post("/api/v1/screenings", files={"image": self._image})
            if answer.status_code == 201:
                body = answer.json()
                self.answers[body["model"]["sha256"], body["label"]] += 1
            else:
                self.failed.append((answer.status_code, answer.text))
            self.probes[self._client.get("/readyz").status_code] += 1

    def __enter__(self) -> "Load":
        self._threads = ThreadPoolExecutor(4)
        self._sending = [self._threads.submit(self.send) for _ in range(4)]
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for one in self._sending:
            one.result(30)
        self._threads.shutdown()


def test_swapping_under_load_fails_no_request(
    application: FastAPI,
    settings: Settings,
    pair: list[ModelCard],
    image_bytes: bytes,
    record_property: Callable[[str, object], None],
) -> None:
    services = application.state.services
    swaps = []
    with Load(application, image_bytes) as load:
        for turn in range(8):
            card = pair[turn % 2]
            activate_model(services.database, settings, card)
            begin = time.perf_counter()
            services.classifier.follow()
            swaps.append(time.perf_counter() - begin)
            own = (card.sha256, card.version)
            before = load.answers[own]
            wait_until(lambda own=own, before=before: load.answers[own] > before + 3, "answers")  # type: ignore[misc]
    assert not load.failed
    assert set(load.probes) == {200}
    # Each answer is that of the model it names, made from images of that model's size.
    released = services.settings.bundle
    expected = {(card.sha256, card.version) for card in pair}
    expected.add((read_card(released).sha256, "pneumonia"))
    assert set(load.answers) <= expected
    record_property("slowest swap, s", max(swaps))
    assert max(swaps) < 5


def test_image_under_way_ends_with_the_classifier_it_began_with(
    application: FastAPI,
    settings: Settings,
    pair: list[ModelCard],
    image_bytes: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services = application.state.services
    activate_model(services.database, settings, pair[0])
    services.classifier.follow()
    decoding, swapped = threading.Event(), threading.Event()
    decode = type(services.decoder).decode

    def slow(self: object, *asked: object) -> DecodedImage:
        decoding.set()
        assert swapped.wait(60)
        return decode(self, *asked)  # type: ignore[arg-type]

    monkeypatch.setattr(type(services.decoder), "decode", slow)
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(
            services.screenings.screen, BytesIO(image_bytes), Owner(visitor_id="one")
        )
        assert decoding.wait(30)
        activate_model(services.database, settings, pair[1])
        services.classifier.follow()
        assert services.classifier.card == pair[1]
        swapped.set()
        row = under_way.result(30)
    assert (row.model_sha256, row.label) == (pair[0].sha256, "covid")


def test_every_process_follows_by_itself(
    settings: Settings, pair: list[ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.registry.serving, "LOOK_EVERY_S", 0.02)
    database = Database(settings.effective_database_url)
    other = ActiveClassifier(settings, database)
    other.start()
    try:
        for card in (*pair, *pair):
            activate_model(database, settings, card)
            wait_until(lambda card=card: other.card == card, card.version)  # type: ignore[misc]
    finally:
        other.close()
        database.close()


def test_restart_answers_with_the_classifier_that_was_activated(
    settings: Settings, pair: list[ModelCard]
) -> None:
    database = Database(settings.effective_database_url)
    activate_model(database, settings, pair[0])
    with running(settings) as app:
        assert app.state.services.classifier.card == pair[0]
        assert (
            TestClient(app)
            .get("/model", follow_redirects=False)
            .headers["location"]
            .endswith(pair[0].sha256)
        )
    database.close()


@pytest.fixture
def follower(settings: Settings, pair: list[ModelCard]) -> Iterator[ActiveClassifier]:
    """Another process's classifier, which looks when a test says so; the first one is active."""
    database = Database(settings.effective_database_url)
    activate_model(database, settings, pair[0])
    followed = ActiveClassifier(settings, database)
    followed.follow()
    assert followed.card == pair[0]
    yield followed
    database.close()


def test_one_that_cannot_be_loaded_leaves_the_old_one_serving_sha256(
    follower: ActiveClassifier, settings: Settings, pair: list[ModelCard], tmp_path: Path
) -> None:
    database = Database(settings.effective_database_url)
    activate_model(database, settings, pair[1])
    with database.sessions() as session:
        folder = model_folder(settings, find_model(session, pair[1].sha256))
    shutil.move(folder, tmp_path / "away")
    for _ in range(3):
        follower.follow()
    assert follower.get(0).card == pair[0]
    assert follower.fault
    assert follower.fault.sha256 == pair[1].sha256
    assert "no card.json" in follower.fault.reason
    told = select(AuditEvent).where(AuditEvent.action == "model.not-loaded")
    with database.sessions() as session:
        (event,) = session.scalars(told)
        assert "no card.json" in event.detail["reason"]

    shutil.move(tmp_path / "away", folder)
    # By itself it waits a little before it tries again.
    follower.follow(again=False)
    assert follower.card == pair[0]
    follower.follow()
    assert (follower.card, follower.fault) == (pair[1], None)
    database.close()


def test_nothing_but_the_activated_one_answers_after_a_restart(
    settings: Settings, pair: list[ModelCard], tmp_path: Path
) -> None:
    database = Database(settings.effective_database_url)
    activate_model(database, settings, pair[0])
    with database.sessions() as session:
        folder = model_folder(settings, find_model(session, pair[0].sha256))
    shutil.move(folder, tmp_path / "away")
    restarted = ActiveClassifier(settings, database)
    restarted.follow()
    with pytest.raises(NotReady, match="operator"):
        restarted.get(0)
    shutil.move(tmp_path / "away", folder)
    restarted.follow()
    assert restarted.card == pair[0]
    database.close()


def test_database_that_is_away_changes_nothing(
    follower: ActiveClassifier,
    settings: Settings,
    pair: list[ModelCard],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = Database(settings.effective_database_url)
    starting = ActiveClassifier(settings, database)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(app.registry.serving, "active_sha256", _away)
        for _ in range(3):
            follower.follow()
            starting.follow()
        assert follower.get(0).card == pair[0]
        with pytest.raises(NotReady, match="database is not available"):
            starting.get(0)
    assert len(caplog.records) == 2  # one for each of them
    activate_model(database, settings, pair[1])
    for one in (follower, starting):
        one.follow()
        assert one.card == pair[1]
    database.close()


def _away(_session: object) -> str:
    raise OperationalError("select", {}, Exception("connection refused"))


def test_released_models_are_registered_at_the_start(
    application: FastAPI, settings: Settings
) -> None:
    def registered() -> set[tuple[str, str]]:
        with application.state.services.database.sessions() as session:
            return {(model.kind, model.version) for model in list_models(session)}

    wait_until(lambda: {kind for kind, _ in registered()} == set(ModelKind), "both kinds")
    assert (ModelKind.CLASSIFIER, "released") in registered()
