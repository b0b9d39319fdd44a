"""Thresholds of clinics: from a validation into use, and back; every screening names its own."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from app.accounts.api_keys import create_key
from app.accounts.tables import Clinic, Role, User
from app.accounts.users import open_session
from app.core.audit import AuditEvent
from app.core.security import SESSION_COOKIE
from app.main import create_app
from app.runs.tables import Run, RunQueue, RunStatus
from app.screenings.tables import Screening
from app.settings import Settings
from app.validation.tables import ClinicThresholds
from ml.classifier.bundle import read_card
from ml.data.manifest import ImageRecord
from ml.evaluation.local_validation import validate_classifier
from ml.options.validation import ValidationOptions
from tests.ml.evaluation.test_local_validation import predictions
from tests.support.images import png, synthetic_image
from tests.support.tiny_models import DATABASES, own_database, settings_for, write_classifier

FORM = {"Origin": "http://testserver"}


@dataclass
class World:
    """An application whose classifier calls everything normal, with an admin and two clinics."""

    app: FastAPI
    settings: Settings
    admin: TestClient
    clinic: TestClient
    other: TestClient
    clinic_id: uuid.UUID
    image: bytes

    def screen(self, client: TestClient) -> dict:  # type: ignore[type-arg]
        answer = client.post("/api/v1/screenings", files={"image": ("a.png", self.image)})
        assert answer.status_code == 201, answer.text
        found: dict = answer.json()  # type: ignore[type-arg]
        return found

    def validation(self, *, labelled: bool = True) -> Run:
        """A validation that has succeeded: one in ten is wrong, so no class is proved."""
        card = read_card(self.settings.bundle)
        count = 240
        records = [
            ImageRecord(
                Path(f"{n}.png"), ("covid", "pneumonia", "normal")[(n + n % 2) % 3], "s", str(n)
            )
            for n in range(count)
        ]
        report = validate_classifier(
            card, records, predictions(count), ValidationOptions(), labelled=labelled
        )
        run = Run(
            id=uuid.uuid4(),
            run_type="validate-classifier",
            options={},
            queue=RunQueue.CPU,
            status=RunStatus.SUCCEEDED,
            requested_by="user:anna",
            result={"images": count, "report": report.as_json()},
        )
        with self.app.state.services.database.session() as session:
            session.add(run)
        return run


@pytest.fixture(scope="module", params=DATABASES)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("validation")
    write_classifier(folder / "released", version="released", answer="normal")
    with own_database(request.param, folder) as url:
        settings = settings_for(url, folder / "home", bundle=folder / "released")
        app = create_app(settings)
        with TestClient(app):
            database = app.state.services.database
            with database.session() as session:
                keys = [create_key(session, name, "test") for name in ("North", "South")]
                user = User(name="anna", password_hash="x", role=Role.ADMIN)
                session.add(user)
                session.flush()
                token = open_session(session, user)
                north = session.scalars(select(Clinic).where(Clinic.name == "North")).one()
            image = png(synthetic_image(np.random.default_rng(7), 200, 200))
            admin = TestClient(app, follow_redirects=False, headers=FORM)
            admin.cookies.set(SESSION_COOKIE, token)
            clients = [TestClient(app, headers={"Authorization": f"Bearer {key}"}) for key in keys]
            yield World(app, settings, admin, *clients, north.id, image)


def test_clinic_uses_the_thresholds_of_a_validation_and_goes_back(world: World) -> None:
    before = world.screen(world.clinic)
    assert (before["decision"], before["threshold_version"]) == ("normal", None)

    run = world.validation()
    page = world.admin.get(f"/validate/{run.id}")
    assert page.status_code == 200
    assert "every image of the clinic will be uncertain" in page.text
    refused = world.admin.post(f"/validate/{run.id}/thresholds", data={"clinic": "x", "why": "y"})
    assert refused.status_code == 422
    assert "Choose a clinic from the list." in refused.text
    refused = world.admin.post(
        f"/validate/{run.id}/thresholds", data={"clinic": str(world.clinic_id), "why": " "}
    )
    assert "Enter a reason" in refused.text
    used = world.admin.post(
        f"/validate/{run.id}/thresholds",
        data={"clinic": str(world.clinic_id), "why": "first validation"},
    )
    assert used.status_code == 303

    after = world.screen(world.clinic)
    assert (after["decision"], after["reason"]) == ("uncertain", "low-confidence")
    assert (after["label"], after["threshold_version"]) == ("normal", 1)
    assert after["probabilities"] == before["probabilities"]
    assert world.screen(world.other)["threshold_version"] is None
    # What was decided before stays as it was.
    shown = world.clinic.get(f"/api/v1/screenings/{before['id']}").json()
    assert (shown["decision"], shown["threshold_version"]) == ("normal", None)

    overview = world.admin.get("/validate").text
    assert "first validation" in overview
    with world.app.state.services.database.sessions() as session:
        first = session.scalars(select(ClinicThresholds)).one()
        events = session.scalars(
            select(AuditEvent).where(AuditEvent.action == "clinic.thresholds")
        ).all()
        assert [(event.actor, event.detail["version"]) for event in events] == [("user:anna", 1)]
    back = {"which": "classifier", "why": "too many are uncertain"}
    assert world.admin.post(f"/validate/thresholds/{first.id}", data=back).status_code == 303
    assert world.screen(world.clinic)["threshold_version"] is None
    again = {"why": "agreed with the clinic"}
    assert world.admin.post(f"/validate/thresholds/{first.id}", data=again).status_code == 303
    assert world.screen(world.clinic)["threshold_version"] == 3
    with world.app.state.services.database.sessions() as session:
        kept = session.get(Screening, uuid.UUID(after["id"]))
        assert kept is not None
        assert kept.clinic_thresholds is not None
        assert kept.clinic_thresholds.version == 1
        versions = session.scalars(select(ClinicThresholds).order_by(ClinicThresholds.id)).all()
        assert [bool(row.by_label) for row in versions] == [True, False, True]


def test_thresholds_without_labels_or_a_reason_are_refused(world: World) -> None:
    run = world.validation(labelled=False)
    page = world.admin.get(f"/validate/{run.id}")
    assert "Use these thresholds" not in page.text
    data = {"clinic": str(world.clinic_id), "why": "x"}
    assert world.admin.post(f"/validate/{run.id}/thresholds", data=data).status_code == 409
    assert world.admin.post("/validate/thresholds/99999", data=data).status_code == 404


def test_form_refuses_what_a_run_refuses(world: World) -> None:
    refused = world.admin.post("/validate", data={"sensitivity": "2", "prevalence": "0.1"})
    assert refused.status_code == 422
    assert 'id="data-fault"' in refused.text
    assert 'id="sensitivity-fault"' in refused.text


def test_pages_are_for_admins(world: World) -> None:
    visitor = TestClient(world.app, follow_redirects=False)
    assert visitor.get("/validate").status_code == 303
    run = world.validation()
    data = {"clinic": str(world.clinic_id), "why": "x"}
    assert visitor.post(f"/validate/{run.id}/thresholds", data=data).status_code == 303
    with world.app.state.services.database.sessions() as session:
        assert not session.scalars(
            select(ClinicThresholds).where(ClinicThresholds.run_id == run.id)
        ).all()
