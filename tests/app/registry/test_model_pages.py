"""The models pages of the console and the public cards: who sees them, what the buttons do."""

import hashlib
import io
import json
import re
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from markupsafe import escape
from PIL import Image
from sqlalchemy import delete, select
from starlette.testclient import TestClient

from app.accounts.api_keys import create_key
from app.core.audit import AuditEvent
from app.core.database import now
from app.datasets.tables import DataKind
from app.datasets.versions import register_data
from app.main import create_app
from app.quiz.tables import QuizRound
from app.registry.comparisons import record_comparison
from app.registry.files import model_folder
from app.registry.queries import list_models, serving_sha256
from app.registry.registration import register_classifier, register_generator
from app.registry.tables import Activation, Comparison, ModelKind, ModelVersion
from app.runs.tables import Run, RunQueue
from app.screenings.tables import Screening
from app.settings import Settings
from ml.classifier.bundle import CARD, GRAPH, read_card
from ml.classifier.card import ModelCard
from ml.data.manifest import DEMONSTRATION, MANIFEST
from ml.data.versioning import freeze
from ml.evaluation.audit_result import AUDIT
from ml.gan.onnx_generator import PRETRAINED as PRETRAINED_GENERATOR
from tests.support.images import png, synthetic_image
from tests.support.tiny_models import (
    DATABASES,
    comparison_of,
    models_checked_here,
    own_database,
    settings_for,
    write_classifier,
    write_comparison,
    write_generator,
)

__all__ = ["models_checked_here"]  # a fixture that all tests here use

BY = "user:anna"
REASON = "the clinic asked for it, see letter 12"


@pytest.fixture(scope="module", params=DATABASES)
def settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("models-pages")
    write_classifier(folder / "released", version="released", answer="covid")
    with own_database(request.param, folder) as url:
        yield settings_for(url, folder / "home", bundle=folder / "released")


@pytest.fixture(scope="module")
def application(settings: Settings) -> Iterator[FastAPI]:
    app = create_app(settings)
    with TestClient(app):
        yield app


@dataclass
class Room:
    """The registry behind the pages: the released classifier and generator, and what is added."""

    app: FastAPI
    settings: Settings
    folder: Path
    released: ModelCard

    def classifier(self, version: str, run: Run | None = None, **given: object) -> ModelCard:
        card = write_classifier(
            self.folder / version,
            version=version,
            answer="normal",
            **given,  # type: ignore[arg-type]
        )
        with self.app.state.services.database.session() as session:
            if run:
                session.add(run)
                session.flush()
            register_classifier(session, self.settings, self.folder / version, run=run, by=BY)
        return card

    def compared(
        self,
        card: ModelCard,
        *,
        faults: list[str] | None = None,
        changed: int = 0,
        data: str = "",
        card_reproduced: bool | None = True,
    ) -> uuid.UUID:
        found = comparison_of(card, self.released, faults=faults, changed=changed)
        found["card_reproduced"] = card_reproduced
        folder = write_comparison(self.folder / "out", found)
        with self.app.state.services.database.session() as session:
            run = Run(
                run_type="compare-classifiers",
                options={},
                queue=RunQueue.CPU,
                requested_by=BY,
                data_sha256=data or None,
            )
            session.add(run)
            session.flush()
            return record_comparison(session, folder, run=run).id

    def images(self, number: int) -> str:
        """Register a data version of some images; its SHA-256."""
        folder = self.folder / "set"
        (folder / "images").mkdir(parents=True)
        rng = np.random.default_rng(3)
        lines = ["image,label,source,patient"]
        for place in range(number):
            (folder / f"images/{place}.png").write_bytes(png(synthetic_image(rng, 96, 80)))
            lines.append(f"images/{place}.png,covid,clinic,p{place}")
        (folder / MANIFEST).write_text("\n".join(lines) + "\n")
        freeze(folder)
        with self.app.state.services.database.session() as session:
            return register_data(
                session, self.settings, folder, name="Images of May", kind=DataKind.IMAGES, by=BY
            ).sha256

    def serving_sha256(self) -> str | None:
        with self.app.state.services.database.sessions() as session:
            return serving_sha256(session, self.settings)

    def events(self, action: str) -> list[AuditEvent]:
        with self.app.state.services.database.sessions() as session:
            return list(session.scalars(select(AuditEvent).where(AuditEvent.action == action)))


@pytest.fixture
def room(application: FastAPI, settings: Settings, tmp_path: Path) -> Iterator[Room]:
    services = application.state.services
    released = read_card(settings.bundle)
    with services.database.session() as session:
        register_classifier(session, settings, settings.bundle, run=None, by="release")
        register_generator(session, settings, PRETRAINED_GENERATOR, run=None, by="release")
    yield Room(application, settings, tmp_path, released)
    with services.database.session() as session:
        for table in (Activation, Comparison, Screening):
            session.execute(delete(table))
        others = ModelVersion.sha256.not_in([released.sha256])
        session.execute(delete(ModelVersion).where(others, ModelVersion.kind == "classifier"))
        session.execute(delete(AuditEvent))
    # Nothing is activated any more, so this process starts again.
    services.classifier._predictor = None
    services.classifier.follow()


def seen(page: str) -> str:
    """The classifier that a page says is active."""
    found = re.search(r'name="seen" value="([0-9a-f]*)"', page)
    assert found
    return found[1]


def test_room_is_for_admins(
    room: Room, visitor: TestClient, clinician: TestClient, admin: TestClient
) -> None:
    card = room.classifier("2")
    comparison = room.compared(card, changed=1)
    own = f"/admin/models/{card.sha256}"
    looks = ["/admin/models", own, f"{own}/bundle.zip", f"{own}/compare/{comparison}"]
    looks.append(f"{own}/compare/{comparison}/images/0.jpg")
    for path in looks:
        assert visitor.get(path).status_code == 303
        assert clinician.get(path).status_code == 403
    acts = ["/admin/models/roll-back"]
    acts += [f"{own}/{act}" for act in ("activate", "archive", "restore", "compare")]
    other_site = {"Sec-Fetch-Site": "cross-site"}
    for path in acts:
        assert visitor.post(path).status_code == 303
        assert clinician.post(path).status_code == 403
        assert admin.post(path, headers=other_site).status_code == 403
    assert room.serving_sha256() == room.released.sha256
    assert not room.events("model.archived")


def test_registry_lists_versions_with_their_state(room: Room, admin: TestClient) -> None:
    run = Run(
        id=uuid.uuid4(),
        run_type="train-classifier",
        options={},
        queue=RunQueue.CPU,
        requested_by=BY,
        data_sha256=room.images(1),
    )
    card = room.classifier("second", run)
    room.compared(card, faults=["it is worse"])
    text = admin.get("/admin/models").text
    assert "active" in text
    assert "promotion checks failed" in text
    assert "Images of May" in text
    assert f"/admin/runs/{run.id}" in text
    for metric in (card.metrics.accuracy, card.metrics.macro_auroc):
        assert f"{metric.value:.3f}" in text
    assert "wgan-gp-64" in text
    assert "Roll back" not in text


@pytest.mark.parametrize("sha256", ["0" * 64, "none", "%00"])
def test_unknown_model_is_not_found(room: Room, admin: TestClient, sha256: str) -> None:
    for path in (f"/admin/models/{sha256}", f"/admin/models/{sha256}/bundle.zip"):
        assert admin.get(path).status_code == 404
    assert admin.post(f"/admin/models/{sha256}/activate").status_code == 404


def test_activating_swaps_at_once_and_rolls_back(
    room: Room, admin: TestClient, visitor: TestClient, image_bytes: bytes
) -> None:
    card = room.classifier("second", size=48)
    room.compared(card)
    own = f"/admin/models/{card.sha256}"
    form = admin.get(own)
    assert "Promotion checks: passed" in form.text
    assert "override" not in form.text
    done = admin.post(f"{own}/activate", data={"seen": seen(form.text)})
    assert (done.status_code, done.headers["location"]) == (303, own)
    answer = visitor.post(
        "/screenings", files={"image": image_bytes}, headers={"Accept": "application/json"}
    )
    assert answer.json()["label"] == "normal"
    assert visitor.get("/model").headers["location"] == f"/models/{card.sha256}"

    assert "Roll back to classifier released" in admin.get("/admin/models").text
    confirmation = admin.get("/admin/models/roll-back")
    for each in (card, room.released):
        assert each.sha256[:12] in confirmation.text
    assert confirmation.text.count(f"{card.metrics.accuracy.value:.3f}") >= 2
    assert visitor.get("/model").headers["location"] == f"/models/{card.sha256}"
    done = admin.post("/admin/models/roll-back", data={"seen": seen(confirmation.text)})
    assert (done.status_code, done.headers["location"]) == (303, "/admin/models")
    assert visitor.get("/model").headers["location"] == f"/models/{room.released.sha256}"
    (activated,), (rolled_back,) = (
        room.events(action) for action in ("model.activated", "model.rolled-back")
    )
    assert activated.actor == rolled_back.actor
    assert activated.actor.startswith("user:admin")
    # Forward again: the checks and a reason, and no confirmation that leads nowhere.
    assert admin.get("/admin/models/roll-back").status_code == 409
    assert "was rolled back from" in admin.get(own).text
    refused = admin.post(f"{own}/activate", data={"seen": room.released.sha256})
    assert refused.status_code == 422


def test_trial_mode_marks_every_page_and_answer(
    room: Room, settings: Settings, image_bytes: bytes, tmp_path: Path
) -> None:
    data = room.released.data.model_copy(
        update={"by_source": {"train": {DEMONSTRATION: {"covid": 9}}}}
    )
    write_classifier(tmp_path / "trial", version="trial", answer="normal", data=data)
    trial = settings.model_copy(update={"bundle": tmp_path / "trial", "trial_mode": True})
    app = create_app(trial)
    with TestClient(app, follow_redirects=False) as client:
        for path in ("/", "/screenings", "/gallery", "/api", "/sign-in", "/nowhere"):
            assert "Trial mode." in client.get(path).text, path
        sent = client.post("/screenings", files={"image": image_bytes}).headers["location"]
        with app.state.services.database.session() as session:
            key = create_key(session, "trial clinic", "test")
        bearer = {"Authorization": f"Bearer {key}"}
        made = client.post("/api/v1/screenings", files={"image": image_bytes}, headers=bearer)
        assert "Do not use" in made.json()["warning"]
        assert made.headers["X-Trial-Mode"] == "true"
        assert client.get("/api/v1/screenings/none", headers=bearer).headers["X-Trial-Mode"]
        cookies = dict(client.cookies)
    # The prediction stays marked when trial mode is over, and the classifier serves no longer.
    with TestClient(create_app(settings), follow_redirects=False, cookies=cookies) as client:
        assert "Trial mode." not in client.get("/").text
        assert "Do not use this prediction" in client.get(sent).text
        listed = client.get("/api/v1/screenings", headers=bearer).json()["screenings"]
        assert "Do not use" in listed[0]["warning"]
        answer = client.post("/api/v1/screenings", files={"image": image_bytes}, headers=bearer)
        assert answer.json()["warning"] is None
    without = trial.model_copy(update={"trial_mode": False})
    with TestClient(create_app(without), follow_redirects=False) as client:
        refused = client.post("/api/v1/screenings", files={"image": image_bytes}, headers=bearer)
        assert refused.status_code == 503


def test_shut_gate_asks_for_an_override(room: Room, admin: TestClient) -> None:
    card = room.classifier("second")
    room.compared(card, faults=["Its accuracy is lower by 0.050."])
    own = f"/admin/models/{card.sha256}"
    form = admin.get(own).text
    assert "Its accuracy is lower by 0.050." in form
    refused = admin.post(f"{own}/activate", data={"seen": seen(form), "override": "<b>why not"})
    assert refused.status_code == 422
    assert "Nothing was changed" in refused.text
    assert "&lt;b&gt;why not" in refused.text
    assert room.serving_sha256() == room.released.sha256
    admin.post(f"{own}/activate", data={"seen": seen(form), "override": REASON})
    assert room.serving_sha256() == card.sha256
    assert REASON in admin.get("/admin/models").text
    (event,) = room.events("model.activated")
    assert event.detail["override"] == REASON


def test_comparison_on_other_images_is_shown_and_opens_no_gate(
    room: Room, admin: TestClient
) -> None:
    card = room.classifier("second")
    comparison = room.compared(card, data=room.images(2), card_reproduced=None)
    own = f"/admin/models/{card.sha256}"
    reason = "It was compared on other test images than its card was measured on"
    for page in (own, f"{own}/compare/{comparison}"):
        text = admin.get(page).text
        assert reason in text
        above_audit = text.partition('id="audit"')[0]
        assert "passed" not in re.sub(r"<[^>]+>", "", above_audit)
    assert "promotion checks failed" in admin.get("/admin/models").text
    refused = admin.post(f"{own}/activate")
    assert refused.status_code == 422
    assert room.serving_sha256() == room.released.sha256


def test_decision_on_an_old_page_changes_nothing(room: Room, admin: TestClient) -> None:
    first, second = room.classifier("first"), room.classifier("second")
    form = admin.get(f"/admin/models/{second.sha256}").text
    override = {"seen": seen(form), "override": REASON}
    admin.post(f"/admin/models/{first.sha256}/activate", data=override)
    late = admin.post(f"/admin/models/{second.sha256}/activate", data=override)
    assert late.status_code == 409
    assert "in the meantime" in late.text
    assert room.serving_sha256() == first.sha256


def test_unusable_classifier_is_refused_in_words(room: Room, admin: TestClient) -> None:
    card = room.classifier("second")
    with room.app.state.services.database.sessions() as session:
        model = session.get_one(ModelVersion, card.sha256)
        (model_folder(room.settings, model) / GRAPH).write_bytes(b"damaged")
    own = f"/admin/models/{card.sha256}"
    assert "damaged" in admin.get(own).text
    refused = admin.post(f"{own}/activate", data={"override": REASON})
    assert refused.status_code == 409
    assert "damaged" in refused.text
    assert room.serving_sha256() == room.released.sha256


def test_classifier_that_cannot_be_loaded_is_told(room: Room, admin: TestClient) -> None:
    card = room.classifier("second")
    own = f"/admin/models/{card.sha256}"
    with room.app.state.services.database.session() as session:
        model = session.get_one(ModelVersion, card.sha256)
        session.add(Activation(id=1, by=BY, model_sha256=card.sha256))
        (model_folder(room.settings, model) / GRAPH).unlink()
    room.app.state.services.classifier.follow()
    text = admin.get("/admin/models").text
    assert "This server cannot load the active classifier" in text
    assert "no classifier.onnx" in text
    assert admin.get(own).status_code == 200
    # The one before answers still.
    assert room.app.state.services.classifier.card == room.released
    assert admin.get("/readyz").json()["classifier"] == "ready"


def test_retiring_and_taking_back(room: Room, admin: TestClient) -> None:
    card = room.classifier("second")
    own = f"/admin/models/{card.sha256}"
    assert admin.post(f"{own}/archive").status_code == 303
    page = admin.get(own).text
    assert "Restore this classifier" in page
    assert f'action="{own}/restore"' in page
    assert "Activate" not in page
    assert admin.post(f"{own}/archive").status_code == 409
    assert "An archived classifier" in admin.get(f"/models/{card.sha256}").text
    assert admin.post(f"{own}/restore").status_code == 303
    assert "Activate anyway" in admin.get(own).text
    refused = admin.post(f"/admin/models/{room.released.sha256}/archive")
    assert refused.status_code == 409
    assert "active" in refused.text


def test_comparing_starts_a_run(room: Room, admin: TestClient) -> None:
    data = room.images(2)
    card = room.classifier("second")
    own = f"/admin/models/{card.sha256}"
    assert "Images of May" in admin.get(own).text
    started = admin.post(f"{own}/compare", data={"data": data})
    assert started.status_code == 303, started.text
    started_id = uuid.UUID(started.headers["location"].removeprefix("/admin/runs/"))
    with room.app.state.services.database.session() as session:
        run = session.get_one(Run, started_id)
        assert (run.run_type, run.data_sha256) == ("compare-classifiers", data)
        wanted = {"data": data, "bundle": card.sha256, "reference": room.released.sha256}
        assert wanted.items() <= run.options.items()
        session.delete(run)
    refused = admin.post(f"{own}/compare", data={"data": "0" * 64})
    assert refused.status_code == 422
    assert "Nothing was changed" in refused.text


def test_comparison_stands_side_by_side(room: Room, admin: TestClient) -> None:
    card = room.classifier("second")
    comparison = room.compared(card, changed=30, data=room.images(26))
    own = f"/admin/models/{card.sha256}/compare/{comparison}"
    first = admin.get(own).text
    assert "Promotion checks: passed" in first
    assert "+0.012" in first
    assert "\N{MINUS SIGN}0.004 to +0.027" in first
    assert "Uncertain (most likely: Normal, 55 %)" in first
    assert first.count('loading="lazy"') == 24
    second = admin.get(f"{own}?which=better&page=2").text
    assert "Page 2 of 2" in second
    assert second.count('loading="lazy"') == 2
    assert "images/29.png" in second
    for odd in ("?which=none", "?page=99", "?which=worse"):
        assert admin.get(f"{own}{odd}").status_code == 200
    assert admin.get(f"{own}?page=0").status_code == 422
    assert (
        admin.get(f"/admin/models/{room.released.sha256}/compare/{comparison}").status_code == 404
    )
    assert admin.get(f"/admin/models/{card.sha256}/compare/{uuid.uuid4()}").status_code == 404

    picture = admin.get(f"{own}/images/1.jpg")
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.headers["cache-control"] == "private, no-store"
    assert Image.open(io.BytesIO(picture.content)).size == (80, 96)
    # What is not in the data set any more, and what never was in the comparison.
    assert admin.get(f"{own}/images/26.jpg").status_code == 404
    assert admin.get(f"{own}/images/30.jpg").status_code == 404
    assert admin.get(f"{own}/images/-1.jpg").status_code == 404


def test_no_image_outside_the_data_set_is_shown(room: Room, admin: TestClient) -> None:
    card = room.classifier("second")
    comparison = room.compared(card, changed=1, data=room.images(1))
    with room.app.state.services.database.session() as session:
        row = session.get_one(Comparison, comparison)
        changed = [row.metrics["changed"][0] | {"image": "../../../released/card.json"}]
        row.metrics = row.metrics | {"changed": changed}
    assert (
        admin.get(f"/admin/models/{card.sha256}/compare/{comparison}/images/0.jpg").status_code
        == 404
    )


def test_lineage_leads_both_ways(room: Room, admin: TestClient, visitor: TestClient) -> None:
    with room.app.state.services.database.sessions() as session:
        (generator,) = list_models(session, ModelKind.GENERATOR)
    parents = {generator.sha256: {"covid": 70, "normal": 30}, "f" * 64: {"covid": 1}}
    card = room.classifier("fed", synthetic=parents)
    own = admin.get(f"/admin/models/{card.sha256}").text
    assert f"/admin/models/{generator.sha256}" in own
    assert "which is not registered" in own
    assert f"/admin/models/{card.sha256}" in admin.get(f"/admin/models/{generator.sha256}").text
    public = visitor.get(f"/models/{card.sha256}").text
    assert "A classifier that is not active" in public
    assert "100 from <a" in public
    assert f"/models/{card.sha256}" in visitor.get(f"/models/{generator.sha256}").text


def test_generator_has_a_public_card(room: Room, visitor: TestClient, admin: TestClient) -> None:
    with room.app.state.services.database.sessions() as session:
        (generator,) = list_models(session, ModelKind.GENERATOR)
    text = visitor.get(f"/models/{generator.sha256}").text
    for part in ("KID", "recall", "COVID-19", "Unselected samples", generator.sha256):
        assert part in text
    for note in generator.card["notes"]:
        assert escape(note) in text
    assert visitor.get(f"/gallery/samples/{generator.sha256}.png").status_code == 200
    own = admin.get(f"/admin/models/{generator.sha256}").text
    assert "Activate" not in own
    assert "Archive this generator" in own


def test_generators_card_tells_how_real_its_images_look(room: Room, visitor: TestClient) -> None:
    with room.app.state.services.database.session() as session:
        (generator,) = list_models(session, ModelKind.GENERATOR)
        address = f"/models/{generator.sha256}"
        images = [{"real": number < 10} for number in range(20)]
        played = QuizRound(
            visitor_id="somebody",
            model_sha256=generator.sha256,
            finished_at=now(),
            counts=True,
            images=images,
            guesses=[number < 14 for number in range(20)],
            right=16,
            synthetic_taken_for_real=4,
            real_taken_for_real=10,
        )
        assert "of its images as real" not in visitor.get(address).text
        session.add(played)
    assert "40 % of its images as real" in visitor.get(address).text
    with room.app.state.services.database.session() as session:
        session.execute(delete(QuizRound))


def test_generator_that_was_not_measured_says_so(
    room: Room, visitor: TestClient, admin: TestClient
) -> None:
    card = write_generator(room.folder / "g")
    path = room.folder / "g" / CARD
    path.write_text(json.dumps(card | {"metrics": {}}))
    with room.app.state.services.database.session() as session:
        register_generator(session, room.settings, room.folder / "g", run=None, by=BY)
    try:
        assert "was not evaluated" in visitor.get(f"/models/{card['sha256']}").text
        assert "not measured" in admin.get("/admin/models").text
        assert admin.get(f"/admin/models/{card['sha256']}").status_code == 200
    finally:
        with room.app.state.services.database.session() as session:
            session.execute(delete(ModelVersion).where(ModelVersion.sha256 == card["sha256"]))


def test_files_are_downloaded_as_they_are(room: Room, admin: TestClient) -> None:
    card = room.classifier("second")
    answer = admin.get(f"/admin/models/{card.sha256}/bundle.zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(archive.namelist()) == [AUDIT, CARD, GRAPH]
        assert hashlib.sha256(archive.read(GRAPH)).hexdigest() == card.sha256
    with room.app.state.services.database.sessions() as session:
        (generator,) = list_models(session, ModelKind.GENERATOR)
    answer = admin.get(f"/admin/models/{generator.sha256}/bundle.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert "generator.safetensors" in archive.namelist()
        for name in archive.namelist():
            stored = model_folder(room.settings, generator) / name
            assert archive.read(name) == stored.read_bytes()
        assert not [name for name in archive.namelist() if name.endswith((".pt", ".pkl"))]


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is started here notifies no worker."""
    monkeypatch.setattr("app.registry.routes.notify_workers", lambda *_about: None)
