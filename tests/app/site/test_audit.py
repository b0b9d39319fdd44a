"""The audit log: filters, names instead of ids, download."""

import csv
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from fastapi import FastAPI
from sqlalchemy import delete
from starlette.testclient import TestClient

from app.accounts.tables import Clinic
from app.core.audit import AuditEvent

ABOUT = "audited thing"
SHA256 = "ab12cd34ef56" * 5 + "abcd"


@pytest.fixture
def clinic_id(application: FastAPI) -> Iterator[uuid.UUID]:
    """Three entries about one thing, by a clinic, on three days."""
    with application.state.services.database.session() as session:
        clinic = Clinic(name=f"Audited clinic {uuid.uuid4()}")
        session.add(clinic)
        session.flush()
        found = clinic.id
        actions = ("screening.created", "model.activated", "run.created")
        for day, action in enumerate(actions, start=1):
            session.add(
                AuditEvent(
                    at=datetime(2020, 5, day, 12, tzinfo=UTC),
                    actor=f"clinic:{clinic.id}",
                    action=action,
                    subject=ABOUT,
                    detail={"instead_of": SHA256, "override": "=letter 12"},
                )
            )
    yield found
    with application.state.services.database.session() as session:
        session.execute(delete(AuditEvent).where(AuditEvent.subject == ABOUT))


def actions_in(admin: TestClient, query: str) -> list[str]:
    """The actions that the download has, newest first."""
    text = admin.get(f"/admin/audit.csv?about={ABOUT}{query}").text
    return [row["action"] for row in csv.DictReader(text.splitlines())]


def test_log_is_filtered_by_kind_and_days(admin: TestClient, clinic_id: uuid.UUID) -> None:
    everything = ["run.created", "model.activated", "screening.created"]
    assert actions_in(admin, "") == everything
    assert actions_in(admin, "&kind=model") == ["model.activated"]
    assert actions_in(admin, "&kind=no-screenings") == everything[:2]
    assert actions_in(admin, "&since=2020-05-02&until=2020-05-02") == ["model.activated"]
    page = admin.get(f"/admin/audit?about={ABOUT}&kind=run").text
    assert "run.created</a>" in page
    assert "model.activated</a>" not in page


def test_page_has_names_and_short_ids(admin: TestClient, clinic_id: uuid.UUID) -> None:
    page = admin.get(f"/admin/audit?about={ABOUT}").text
    assert "clinic Audited clinic" in page
    assert f"{SHA256[:12]}…" in page
    assert SHA256 not in page


def test_download_has_whole_ids_and_no_formula(admin: TestClient, clinic_id: uuid.UUID) -> None:
    answer = admin.get(f"/admin/audit.csv?about={ABOUT}")
    assert "attachment" in answer.headers["content-disposition"]
    (first, *_) = csv.DictReader(answer.text.splitlines())
    assert SHA256 in first["details"]
    assert first["actor"] == f"clinic:{clinic_id}"


@pytest.mark.parametrize("query", ["kind=cats", "since=May", "until=2020-13-01"])
def test_senseless_filter_is_refused(admin: TestClient, query: str) -> None:
    assert admin.get(f"/admin/audit?{query}").status_code == 422


def test_log_is_for_admins(visitor: TestClient, clinician: TestClient) -> None:
    assert visitor.get("/admin/audit.csv").status_code == 303
    assert clinician.get("/admin/audit.csv").status_code == 403
