"""The monitoring of clinics: too few images, no change, and alarms, each announced once."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, select
from starlette.testclient import TestClient

from app.accounts.tables import Clinic, Role, User
from app.accounts.users import open_session
from app.core.audit import AuditEvent
from app.core.notifications import Notification
from app.core.security import SESSION_COOKIE
from app.main import create_app
from app.monitoring.service import State, check_clinics, clinic_states
from app.monitoring.tables import MonitoringAlarm
from app.registry.tables import ModelVersion
from app.screenings.tables import Review, Screening
from app.settings import Settings
from ml.evaluation.monitoring import REFERENCE_IMAGES, Observed, simulated_clinic
from tests.support.screenings import screening_row
from tests.support.tiny_models import DATABASES, own_database, settings_for, write_classifier

MODEL = "0" * 64
START = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class World:
    """An application with an admin, a clinic and a webhook that nobody answers."""

    app: FastAPI
    settings: Settings
    admin: TestClient
    clinic_id: uuid.UUID

    def fill(self, *parts: Observed) -> list[uuid.UUID]:
        """Give the clinic these screenings and no others, oldest first."""
        ids = []
        with self.app.state.services.database.session() as session:
            for table in (MonitoringAlarm, Notification, Review, Screening):
                session.execute(delete(table))
            for part in parts:
                for decision, confidence, ood, image in zip(
                    part.decisions, part.confidence, part.ood_score, part.images, strict=True
                ):
                    row = self._row(len(ids) + 1, decision, confidence, ood, image)
                    ids.append(row.id)
                    session.add(row)
        return ids

    def _row(
        self, number: int, decision: str, confidence: float, ood_score: float, image: str
    ) -> Screening:
        return screening_row(
            uuid.uuid4(),
            created_at=START + timedelta(minutes=number),
            clinic_id=self.clinic_id,
            image_sha256=image,
            model_sha256=MODEL,
            model_version="watched",
            label="normal" if decision == "uncertain" else decision,
            decision=decision,
            reason="low-confidence" if decision == "uncertain" else None,
            probabilities={"covid": 1 - confidence, "normal": confidence},
            ood_score=ood_score,
        )

    def state(self):  # type: ignore[no-untyped-def]
        with self.app.state.services.database.sessions() as session:
            (found,) = clinic_states(session)
        return found

    def check(self) -> int:
        return check_clinics(self.app.state.services.database, self.settings)


@pytest.fixture(scope="module", params=DATABASES)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("monitoring")
    write_classifier(folder / "released", version="released", answer="normal")
    with own_database(request.param, folder) as url:
        settings = settings_for(url, folder / "home", bundle=folder / "released")
        app = create_app(settings)
        with TestClient(app):
            with app.state.services.database.session() as session:
                clinic = Clinic(name="North")
                user = User(name="anna", password_hash="x", role=Role.ADMIN)
                session.add_all(
                    [clinic, user, ModelVersion(sha256=MODEL, version="watched", card={})]
                )
                session.flush()
                token, clinic_id = open_session(session, user), clinic.id
            admin = TestClient(app, headers={"Origin": "http://testserver"})
            admin.cookies.set(SESSION_COOKIE, token)
            # The server has no webhook, so that it sends nothing while the tests look.
            announcing = settings.model_copy(
                update={"webhook_url": "http://127.0.0.1:9/", "public_url": "http://here"}
            )
            yield World(app, announcing, admin, clinic_id)


def drawn(count: int, seed: int, **clinic: float) -> Observed:
    return simulated_clinic(**clinic)(np.random.default_rng(seed), count)


def test_too_few_images_say_how_many_are_missing(world: World) -> None:
    world.fill(drawn(250, 1))
    state = world.state()
    assert (state.state, state.missing, state.tests) == (State.TOO_FEW, 50, [])
    assert world.check() == 0
    page = world.admin.get("/admin/monitoring").text
    assert "too few images" in page
    assert "50 more are needed" in page


def test_no_change_is_no_alarm(world: World) -> None:
    world.fill(drawn(200, 1), drawn(340, 2))
    state = world.state()
    assert state.state is State.NO_CHANGE
    assert state.group.blocks == 3
    assert world.check() == 0


def test_change_is_recorded_and_announced_once_without_names(world: World) -> None:
    world.fill(drawn(REFERENCE_IMAGES, 1), drawn(100, 2), drawn(100, 3, uncertain=0.95))
    assert world.state().state is State.ALARM
    made = world.check()
    assert made >= 1
    assert world.check() == 0
    with world.app.state.services.database.sessions() as session:
        alarms = session.scalars(select(MonitoringAlarm)).all()
        sent = session.scalars(select(Notification)).all()
    assert {alarm.block for alarm in alarms} == {2}
    assert "decisions" in {alarm.test for alarm in alarms}
    assert len(alarms) == len(sent) == made
    assert {row.event for row in sent} == {"monitoring.alarm"}
    assert "North" not in str([row.body for row in sent])

    page = world.admin.get("/admin/monitoring").text
    assert "shares of the predictions" in page
    world.admin.post(f"/admin/monitoring/alarms/{alarms[0].id}")
    with world.app.state.services.database.sessions() as session:
        seen = session.get_one(MonitoringAlarm, alarms[0].id)
        assert seen.acknowledged_by == "user:anna"
        action = AuditEvent.action == "clinic.alarm-acknowledged"
        assert len(session.scalars(select(AuditEvent).where(action)).all()) == 1
    assert world.admin.post(f"/admin/monitoring/alarms/{uuid.uuid4()}").status_code == 404


def test_reviews_that_disagree_are_an_alarm(world: World) -> None:
    ids = world.fill(drawn(120, 1, uncertain=0.0))
    with world.app.state.services.database.session() as session:
        for id in ids[:30]:  # noqa: A001
            session.add(Review(screening_id=id, clinic_id=world.clinic_id, label="other-finding"))
        for id in ids[30:60]:  # noqa: A001
            session.add(Review(screening_id=id, clinic_id=world.clinic_id, label="not-readable"))
    reviews = world.state().reviews
    assert (reviews.wrong.value, reviews.wrong.n) == (1.0, 30)
    assert world.check() == 1
    assert "disagreement with reviews" in world.admin.get("/admin/monitoring").text


def test_page_is_for_admins(world: World) -> None:
    visitor = TestClient(world.app, follow_redirects=False)
    assert visitor.get("/admin/monitoring").status_code == 303
    assert visitor.post("/admin/monitoring/check").status_code == 303
