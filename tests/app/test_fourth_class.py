"""A data set with a fourth class goes through everything, without a changed line of code."""

import csv
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from app.accounts.api_keys import create_key
from app.accounts.tables import Clinic, Role, User
from app.accounts.users import open_session
from app.core.errors import InvalidForm
from app.core.security import SESSION_COOKIE
from app.datasets.corrections import write_corrections
from app.datasets.tables import DataKind
from app.datasets.versions import data_folder, register_data
from app.gallery.registration import register_images
from app.gallery.tables import SyntheticImage
from app.gallery.visibility import VisibilityChange, change_visibility
from app.main import create_app
from app.registry.activation import activate
from app.registry.registration import register_classifier, register_generator
from app.settings import Settings
from ml.classifier.predictor import Predictor
from ml.data.manifest import labels_of, read_manifest, read_synthetic_manifest
from ml.data.splits import Split
from ml.data.versioning import freeze
from ml.errors import BundleError
from ml.gan.generator_file import load_generator
from ml.gan.onnx_generator import CARD as GENERATOR_CARD
from ml.gan.release import release_generator
from ml.gan.synthesis.folder import SyntheticFolder
from ml.gan.synthesis.request import SynthesisRequest
from ml.gan.synthesis.synthesize import synthesize
from ml.gan.training import train_gan
from ml.imaging.decode import read_image
from ml.imaging.preprocessing import standardise
from tests.conftest import leave_out
from tests.support.classifier_world import QUICK, SIDE, tiny_network, write_data, xray
from tests.support.gan_world import CPU, one_thread, pixel_space, tiny, write_images
from tests.support.tiny_models import own_database, settings_for, write_classifier

__all__ = ["one_thread", "tiny_network"]  # fixtures that all tests here use
TUBERCULOSIS = "tuberculosis"
FOUR = ("covid", "pneumonia", "normal", TUBERCULOSIS)
BY = "user:anna"
REASON = "the first model that knows tuberculosis"
IMAGES = {Split.TRAIN: 24, Split.VALIDATION: 6, Split.TEST: 6}


@dataclass
class World:
    """An installation in which a classifier of four classes is active.

    Attributes:
        data: the data set.
        bundle: of the classifier.
        reference: the bundle of a classifier of three classes, which was active before.
        application: it runs.
    """

    folder: Path
    settings: Settings
    data: Path
    bundle: Path
    reference: Path
    application: FastAPI

    def sign_in(self) -> TestClient:
        """A clinician."""
        with self.application.state.services.database.session() as session:
            clinic = Clinic(name="clinic")
            session.add(clinic)
            session.flush()
            user = User(name="bea", password_hash="none", role=Role.CLINICIAN, clinic_id=clinic.id)
            session.add(user)
            session.flush()
            token = open_session(session, user)
        return TestClient(self.application, cookies={SESSION_COOKIE: token})

    def consumptive(self) -> bytes:
        """An image that the classifier calls tuberculosis."""
        predictor = Predictor.load(self.bundle)
        for record in read_manifest(self.data):
            content = record.path.read_bytes()
            pixels = standardise(read_image(content).pixels, SIDE)
            if predictor.predict(pixels).decision == TUBERCULOSIS:
                return content
        pytest.fail("the classifier calls no image tuberculosis")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_network: None) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("four")
    data = write_data(folder / "data", IMAGES, labels=FOUR)
    longer = (*QUICK, "--epochs", 12, "--patience", 12)
    done = xray("train", "classifier", "--data", data, "--out", folder / "run", *longer)
    assert done.exit_code == 0, done.output
    done = xray(
        *("export", "classifier", "--data", data, "--run", folder / "run"),
        *("--out", folder / "bundle", "--bundle-version", "four"),
    )
    assert done.exit_code == 0, done.output
    write_classifier(folder / "three", version="three", answer="normal")
    with own_database("sqlite", folder) as url:
        settings = settings_for(url, folder / "home", bundle=folder / "three")
        application = create_app(settings)
        with TestClient(application):
            made = World(folder, settings, data, folder / "bundle", folder / "three", application)
            _activate(made)
            yield made


def _activate(world: World) -> None:
    services = world.application.state.services
    with services.database.session() as session:
        for bundle in (world.reference, world.bundle):
            model = register_classifier(session, world.settings, bundle, run=None, by=BY)
        with pytest.raises(InvalidForm) as refused:
            activate(session, world.settings, model, by=BY)
        assert "Only classifiers of the same classes can be compared" in str(refused.value.faults)
        activate(session, world.settings, model, by=BY, override=REASON)
    services.classifier.follow()


def test_card_and_evaluation_have_four_classes(world: World, tmp_path: Path) -> None:
    card = Predictor.load(world.bundle).card
    assert tuple(card.labels) == FOUR
    assert "COVID-19, pneumonia, normal and tuberculosis" in card.intended_use
    done = xray(
        *("evaluate", "classifier", "--data", world.data, "--bundle", world.bundle),
        *("--out", tmp_path, "--run", world.folder / "run"),
    )
    assert done.exit_code == 0, done.output
    report = (tmp_path / "report.html").read_text()
    assert "Tuberculosis" in report
    page = TestClient(world.application).get(f"/models/{card.sha256}").text
    assert page.count("Tuberculosis") > 3


def test_classifiers_of_other_classes_are_not_compared(world: World) -> None:
    done = xray(
        *("compare", "classifiers", "--data", world.data, "--bundle", world.bundle),
        *("--reference", world.reference),
    )
    assert isinstance(done.exception, BundleError)
    assert "classifier four predicts COVID-19, Pneumonia, Normal, Tuberculosis" in str(
        done.exception
    )
    assert "Only classifiers of the same classes can be compared" in str(done.exception)
    done = xray("evaluate", "classifier", "--data", world.data, "--bundle", world.reference)
    assert "of tuberculosis. Use a data set with the classes" in str(done.exception)


def test_predictions_and_reviews_have_four_classes(world: World, tmp_path: Path) -> None:
    image = world.consumptive()
    with world.application.state.services.database.session() as session:
        key = create_key(session, "api", "test")
    api = TestClient(world.application, headers={"Authorization": f"Bearer {key}"})
    made = api.post("/api/v1/screenings", files={"image": ("a.png", image)}).json()
    assert tuple(made["probabilities"]) == FOUR
    assert made["decision"] == TUBERCULOSIS
    heat_map = made["heatmap_url"]
    assert api.get(heat_map, params={"label": TUBERCULOSIS}).status_code == 200
    unknown = api.get(heat_map, params={"label": "measles"})
    assert (unknown.status_code, "covid, pneumonia" in unknown.text) == (404, True)

    user = world.sign_in()
    page = user.post("/screenings", files={"image": ("a.png", image)})
    assert page.status_code == 200
    assert re.findall(r'<th scope="row">([^<]+)</th>', page.text)[:4] == [
        "COVID-19", "Pneumonia", "Normal", "Tuberculosis",
    ]  # fmt: skip
    assert user.get(f"{page.url.path}/heatmaps/{TUBERCULOSIS}.png").status_code == 200
    assert "Tuberculosis" in user.get("/screenings").text
    assert "COVID-19, pneumonia, normal or tuberculosis" in user.get("/").text

    assert f'value="{TUBERCULOSIS}"' in page.text
    wrong = user.post(f"{page.url.path}/review", data={"label": "measles"})
    assert "Choose what the image shows: " in wrong.text
    done = user.post(f"{page.url.path}/review", data={"label": TUBERCULOSIS})
    assert done.status_code == 200
    services = world.application.state.services
    with services.database.sessions() as session:
        assert write_corrections(session, services.storage, tmp_path / "corrections")[0] == 1
    (record,) = read_manifest(tmp_path / "corrections")
    assert record.label == TUBERCULOSIS


def test_predict_writes_a_column_for_each_class(world: World, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(world.consumptive())
    done = xray(
        *("predict", tmp_path / "a.png", "--bundle", world.bundle),
        *("--csv", tmp_path / "out.csv"),
    )
    assert done.exit_code == 0, done.output
    with (tmp_path / "out.csv").open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert row["decision"] == TUBERCULOSIS
    assert sum(float(row[label]) for label in FOUR) == pytest.approx(1, abs=1e-5)


def test_data_set_version_shows_four_classes(world: World, tmp_path: Path) -> None:
    frozen = tmp_path / "set"
    shutil.copytree(world.data, frozen)
    assert freeze(frozen).by_label == dict.fromkeys(FOUR, sum(IMAGES.values()))
    services = world.application.state.services
    with services.database.session() as session:
        version = register_data(
            session, world.settings, frozen, name="Four classes", kind=DataKind.IMAGES, by=BY
        )
        sha256 = version.sha256
        user = User(name="admin", password_hash="none", role=Role.ADMIN)
        session.add(user)
        session.flush()
        token = open_session(session, user)
    admin = TestClient(world.application, cookies={SESSION_COOKIE: token})
    for address in ("/admin/data", f"/admin/data/{sha256}"):
        answer = admin.get(address)
        assert answer.status_code == 200
        assert '">Tuberculosis</th>' in answer.text


def test_generator_makes_the_fourth_class_for_the_gallery(world: World, tmp_path: Path) -> None:
    images = {Split.TRAIN: 8, Split.VALIDATION: 6, Split.TEST: 8}
    (tmp_path / "images").mkdir()
    records = write_images(tmp_path / "images", images, FOUR)
    options = tiny(labels=",".join(FOUR), conditional=True, steps=2)
    trained = train_gan(records, tmp_path / "run", options, device=CPU, features=pixel_space())
    released = tmp_path / "release"
    release_generator(trained, records, released, features=[pixel_space()], samples=16, quiet=True)
    assert (released / GENERATOR_CARD).is_file()
    loaded = load_generator(released / "generator.safetensors")
    made = SyntheticFolder(tmp_path / "made")
    wanted = SynthesisRequest(count=3, label=TUBERCULOSIS)
    assert synthesize(loaded, made, wanted, None).written == 3
    assert labels_of(read_synthetic_manifest(tmp_path / "made")) == (TUBERCULOSIS,)
    freeze(tmp_path / "made")
    services = world.application.state.services
    with services.database.session() as session:
        model = register_generator(session, world.settings, released, run=None, by=BY)
        version = register_data(
            session,
            world.settings,
            tmp_path / "made",
            name="Synthetic",
            kind=DataKind.SYNTHETIC,
            by=BY,
        )
        assert register_images(session, version, data_folder(world.settings, version)) == 3
        sha256 = model.sha256
        # They had no privacy check, so an admin has to publish them.
        ids = session.scalars(
            select(SyntheticImage.id).where(SyntheticImage.model_sha256 == sha256)
        ).all()
        assert change_visibility(session, ids, VisibilityChange.PUBLISH, by=BY) == 3
    visitor = TestClient(world.application)
    page = visitor.get("/gallery", params={"label": TUBERCULOSIS, "model": sha256}).text
    assert "Tuberculosis: 3" in page
    assert len(re.findall(r'data-id="\d+"', page)) == 3
    assert "Tuberculosis</option>" in visitor.get(f"/gallery/make?model={sha256}").text
    assert visitor.get(f"/models/{sha256}").text.count("Tuberculosis") > 0


# --- the real images ------------------------------------------------------------------------------


def test_real_tuberculosis_set_is_read_and_joined(data_folder: Path, tmp_path: Path) -> None:
    own = data_folder.parent / TUBERCULOSIS
    if not (own / "manifest.csv").is_file():
        leave_out(f"there is no data set of tuberculosis at {own}")
    records = read_manifest(own)
    assert (len(records), labels_of(records)) == (450, (TUBERCULOSIS,))
    assert {record.site for record in records} == {"pakistan"}
    done = xray("data", "summary", own, "--no-duplicates")
    assert "tuberculosis" in done.output

    base, added = _some_of(data_folder, tmp_path / "cxr", 8), _some_of(own, tmp_path / "tb", 8)
    done = xray("data", "prepare", "--out", tmp_path / "out", "--base", base, "--add", added)
    assert done.exit_code == 0, done.output
    joined = read_manifest(tmp_path / "out" / "set")
    assert labels_of(joined) == FOUR
    assert {record.site for record in joined if record.label == TUBERCULOSIS} == {"pakistan"}
    assert "tuberculosis" in xray("data", "summary", tmp_path / "out" / "set").output


def _some_of(root: Path, to: Path, count: int) -> Path:
    """A data set with the first images of each class."""
    with (root / "manifest.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    chosen = [
        row
        for label in sorted({row["label"] for row in rows})
        for row in [row for row in rows if row["label"] == label][:count]
    ]
    for row in chosen:
        row["lung_mask"] = ""
        (to / row["image"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / row["image"], to / row["image"])
    with (to / "manifest.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(chosen[0]))
        writer.writeheader()
        writer.writerows(chosen)
    return to
