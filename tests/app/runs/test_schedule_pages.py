"""The console's pages of schedules, on each kind of database."""

import uuid
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from sqlalchemy import delete, select
from starlette.testclient import TestClient

from app.core.audit import AuditEvent
from app.core.database import Database, now
from app.datasets.tables import DataVersion
from app.runs.schedules import Timing, create_schedule, next_slot, start_due
from app.runs.tables import Run, RunStatus, Schedule
from tests.support.console import FormReader
from tests.support.synthetic_set import data_version

DATA = "9" * 64
FORM = "/admin/schedules/new/train-classifier"
FILLED = {"schedule-name": "Every night", "schedule-at": "03:30", "epochs": "2"}


@pytest.fixture
def database(application: FastAPI) -> Iterator[Database]:
    """A data version to learn from, and no schedules."""
    database: Database = application.state.services.database
    with database.session() as session:
        session.merge(data_version(DATA))
    yield database
    with database.session() as session:
        session.execute(delete(Run))
        session.execute(delete(Schedule))
        session.execute(delete(DataVersion).where(DataVersion.sha256 == DATA))


@pytest.fixture
def schedule(database: Database) -> Schedule:
    with database.session() as session:
        return create_schedule(
            session,
            "Every night",
            "train-classifier",
            {"data": DATA},
            timing=Timing(at="03:30"),
            by="user:somebody",
        )


def all_schedules(database: Database) -> list[Schedule]:
    with database.session() as session:
        return list(session.scalars(select(Schedule)))


def test_schedule_is_made_of_the_form_of_its_runs(admin: TestClient, database: Database) -> None:
    sent = FormReader(admin.get(FORM).text).with_values(**FILLED, data=DATA)
    sent["schedule-days"] = ["0", "4"]
    answer = admin.post(FORM, data=sent)
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/schedules")
    (made,) = all_schedules(database)
    assert (made.name, made.at, made.weekdays) == ("Every night", "03:30", "04")
    assert (made.run_type, made.options["epochs"], made.options["data"]) == (
        "train-classifier",
        2,
        DATA,
    )
    assert made.created_by.startswith("user:admin")
    page = admin.get("/admin/schedules").text
    assert "03:30 UTC, Monday, Friday" in page
    assert next_slot(made, now()).isoformat() in page


def test_faults_of_schedule_and_options_stand_beside_their_fields(
    admin: TestClient, database: Database
) -> None:
    sent = FormReader(admin.get(FORM).text).with_values(**{"schedule-at": "25:00", "epochs": "0"})
    del sent["schedule-days"]
    answer = admin.post(FORM, data=sent)
    assert answer.status_code == 422
    for name in ("schedule-name", "schedule-at", "schedule-days", "option-epochs"):
        assert f'id="{name}-fault"' in answer.text
    assert 'value="25:00"' in answer.text
    assert all_schedules(database) == []


def test_name_is_given_once(admin: TestClient, schedule: Schedule, database: Database) -> None:
    sent = FormReader(admin.get(FORM).text).with_values(**FILLED, data=DATA)
    answer = admin.post(FORM, data=sent)
    assert answer.status_code == 422
    assert 'id="schedule-name-fault"' in answer.text
    assert len(all_schedules(database)) == 1


def test_preset_fills_the_form(admin: TestClient) -> None:
    sent = dict(FormReader(admin.get("/admin/schedules/new/train-gan?preset=dcgan").text).sent)
    assert sent["objective"] == "gan"


def test_schedule_is_switched_off_and_on(
    admin: TestClient, schedule: Schedule, database: Database
) -> None:
    assert admin.post(f"/admin/schedules/{schedule.id}/disable").status_code == 303
    assert not all_schedules(database)[0].enabled
    assert "Disabled" in admin.get("/admin/schedules").text
    assert admin.post(f"/admin/schedules/{schedule.id}/enable").status_code == 303
    assert all_schedules(database)[0].enabled


def test_deleted_schedule_leaves_its_runs(
    admin: TestClient, schedule: Schedule, database: Database
) -> None:
    (run,) = start_due(database, next_slot(schedule, now()))
    assert f"/admin/runs/{run.id}" in admin.get("/admin/schedules").text
    assert "schedule</a> Every night" in admin.get(f"/admin/runs/{run.id}").text
    assert "cannot be undone" in admin.get(f"/admin/schedules/{schedule.id}/delete").text
    assert admin.post(f"/admin/schedules/{schedule.id}/delete").status_code == 303
    assert all_schedules(database) == []
    with database.session() as session:
        assert session.get_one(Run, run.id).status is RunStatus.QUEUED
        told = select(AuditEvent.action).where(AuditEvent.subject == str(schedule.id))
        actions = session.scalars(told.order_by(AuditEvent.at)).all()
    assert actions == ["schedule.created", "schedule.deleted"]


def test_schedule_is_edited_in_the_form_with_its_values(
    admin: TestClient, schedule: Schedule, database: Database
) -> None:
    address = f"/admin/schedules/{schedule.id}/edit"
    page = admin.get(address)
    form = FormReader(page.text)
    assert dict(form.sent)["schedule-at"] == "03:30"
    assert dict(form.sent)["data"] == DATA
    sent = form.with_values(**{"schedule-name": "On Fridays", "schedule-at": "00:00"}, epochs="5")
    sent["schedule-days"] = ["4"]
    before = now()
    answer = admin.post(address, data=sent)
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/schedules")
    (changed,) = all_schedules(database)
    assert (changed.id, changed.name, changed.at, changed.weekdays) == (
        schedule.id,
        "On Fridays",
        "00:00",
        "4",
    )
    assert changed.options["epochs"] == 5
    # Slots of the new time that have passed were not missed.
    assert changed.enabled_at >= before
    wrong = admin.post(address, data=sent | {"schedule-at": ["25:00"], "epochs": ["0"]})
    assert wrong.status_code == 422
    assert "The schedule was not changed" in wrong.text
    assert f'action="{address}"' in wrong.text
    assert 'value="25:00"' in wrong.text


def test_schedule_runs_at_once_and_its_result_is_shown(
    admin: TestClient, schedule: Schedule, database: Database
) -> None:
    admin.post(f"/admin/schedules/{schedule.id}/disable")
    first = admin.post(f"/admin/schedules/{schedule.id}/run").headers["location"]
    assert admin.post(f"/admin/schedules/{schedule.id}/run").headers["location"] != first
    assert "Started by schedule" not in admin.get(first).text
    with database.session() as session:
        newest = session.scalars(select(Run).order_by(Run.created_at.desc())).first()
        assert newest
        assert (newest.schedule_id, newest.run_type) == (schedule.id, "train-classifier")
        newest.status, newest.finished_at = RunStatus.SUCCEEDED, now()
        newest.result = {"version": "2026-11-28 x"}
    page = admin.get("/admin/schedules").text
    assert "Last result" in page
    assert ">done</span>" in page
    assert "Version: 2026-11-28 x" in page
    assert f'/admin/data/{DATA}">images</a>' in page


def test_unknown_schedule_is_not_found(admin: TestClient) -> None:
    for act in ("enable", "disable", "delete", "edit", "run"):
        assert admin.post(f"/admin/schedules/{uuid.uuid4()}/{act}").status_code == 404


@pytest.mark.parametrize("address", ["", "/new", "/new/train-gan"])
def test_only_admins_see_schedules(
    clinician: TestClient, visitor: TestClient, address: str
) -> None:
    assert clinician.get(f"/admin/schedules{address}").status_code == 403
    assert visitor.get(f"/admin/schedules{address}").status_code == 303


def test_only_our_own_pages_change_schedules(
    admin: TestClient, clinician: TestClient, schedule: Schedule, database: Database
) -> None:
    for act in ("disable", "delete", "edit", "run"):
        address = f"/admin/schedules/{schedule.id}/{act}"
        assert clinician.post(address).status_code == 403
        elsewhere = admin.post(address, headers={"sec-fetch-site": "cross-site"})
        assert elsewhere.status_code == 403
    assert all_schedules(database)[0].enabled
