"""The audit as a promotion check, and the public page about trust."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from app.core.audit import AuditEvent
from app.core.errors import InvalidForm
from app.main import create_app
from app.registry.activation import activate, find_blockers
from app.registry.files import evidence_of, model_folder
from app.registry.promotion import PromotionCheck
from app.registry.registration import keep_audit, register_classifier
from app.settings import Settings
from ml.errors import BundleError
from ml.evaluation.audit_result import AUDIT
from ml.evaluation.evidence import UNSEEN, UnseenReport
from ml.reporting.checklists import CLAIM, TRIPOD_AI
from tests.support.tiny_models import own_database, settings_for, write_audit_of, write_classifier

BY = "user:anna"
REASON = "the clinic asked for it, see letter 12"
HEADLINE = "Of 200 healthy people elsewhere it calls 12 % COVID-19."


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("trust")
    write_classifier(folder / "released", version="released", answer="covid")
    with own_database("sqlite", folder) as url:
        yield settings_for(url, folder / "home", bundle=folder / "released")


@pytest.fixture(scope="module")
def application(settings: Settings) -> Iterator[FastAPI]:
    app = create_app(settings)
    with TestClient(app):
        yield app


def audit_reasons(app: FastAPI, settings: Settings, folder: Path) -> list[str]:
    """Register a bundle; why its audit keeps it from being activated."""
    with app.state.services.database.session() as session:
        model = register_classifier(session, settings, folder, run=None, by=BY)
        return [
            blocker.reason
            for blocker in find_blockers(session, settings, model)
            if blocker.check is PromotionCheck.AUDITED
        ]


def test_classifier_without_audit_needs_a_written_override(
    application: FastAPI, settings: Settings, tmp_path: Path
) -> None:
    write_classifier(tmp_path, version="unaudited", answer="normal", audited=False)
    assert audit_reasons(application, settings, tmp_path) == [
        "It has not been audited. Audit it first."
    ]


def test_failed_missing_and_demonstration_audits_are_named(
    application: FastAPI, settings: Settings, tmp_path: Path
) -> None:
    card = write_classifier(tmp_path, version="failing", answer="normal", size=48)
    good = write_audit_of(tmp_path, card)
    assert audit_reasons(application, settings, tmp_path) == []
    worse = good.rows[0].model_copy(
        update={"value": good.rows[0].value.__class__(0.93, 0.9, 0.95, 100)}
    )
    rows = [worse, *good.rows[1:-1]]
    write_audit_of(tmp_path, card, rows=rows, has_stand_ins=True)
    # The bundle is registered again: its new audit takes the place of the old one.
    reasons = audit_reasons(application, settings, tmp_path)
    assert len(reasons) == 3
    assert "synthetic images of the demonstration set" in reasons[0]
    assert reasons[1] == "It failed 1 of the audit's checks: Lungs blacked out."
    assert "could not measure 'Heat map, insertion'" in reasons[2]
    with application.state.services.database.session() as session:
        model = register_classifier(session, settings, tmp_path, run=None, by=BY)
        with pytest.raises(InvalidForm, match="Lungs blacked out"):
            activate(session, settings, model, by=BY)
        events = select(AuditEvent.action).where(AuditEvent.subject == card.sha256)
        assert list(session.scalars(events)) == ["model.registered", "model.evidence-changed"]


def test_audit_of_a_run_is_put_beside_its_classifier(
    application: FastAPI, settings: Settings, tmp_path: Path
) -> None:
    bundle, out = tmp_path / "bundle", tmp_path / "out"
    out.mkdir()
    card = write_classifier(bundle, version="later", answer="normal", size=64, audited=False)
    write_audit_of(out, card)
    with application.state.services.database.session() as session:
        register_classifier(session, settings, bundle, run=None, by=BY)
        model, result = keep_audit(session, settings, out, by=BY)
        assert evidence_of(settings, model).audit == result
        assert (model_folder(settings, model) / AUDIT).is_file()


def test_damaged_audit_and_one_of_another_classifier_are_refused(
    application: FastAPI, settings: Settings, tmp_path: Path
) -> None:
    card = write_classifier(tmp_path, version="damaged", answer="normal", size=96)
    with application.state.services.database.session() as session:
        write_audit_of(tmp_path, card, sha256="f" * 64)
        with pytest.raises(BundleError, match="is of classifier ffffffffffff"):
            register_classifier(session, settings, tmp_path, run=None, by=BY)
        (tmp_path / AUDIT).write_text("{")
        with pytest.raises(BundleError, match="is no audit"):
            register_classifier(session, settings, tmp_path, run=None, by=BY)


def test_public_page_says_what_was_not_measured(application: FastAPI, tmp_path: Path) -> None:
    client = TestClient(application)
    text = client.get("/trust").text
    assert "is not measured. Take it to be wrong there." in text
    assert "trained without each site: Not measured." in text
    assert "Audit: passed." in text
    for item in (*TRIPOD_AI, *CLAIM):
        assert item.item in text
    for path in ("/", "/model", "/trust"):
        assert 'href="/trust"' in client.get(path).text


def test_public_page_puts_unseen_hospitals_first(application: FastAPI, settings: Settings) -> None:
    services = application.state.services
    sha256 = services.classifier.card.sha256
    report = UnseenReport(sha256=sha256, headline=HEADLINE, protocol="Once.", measurements=[])
    settings.bundle.joinpath(UNSEEN).write_text(report.to_json())
    with services.database.session() as session:
        register_classifier(session, settings, settings.bundle, run=None, by=BY)
    text = TestClient(application).get("/trust").text
    assert text.index(HEADLINE) < text.index("Hospitals it was not trained on")
    places = [
        text.index(f'<section class="part" id="{name}"')
        for name in ("unseen", "audit", "calibration", "coverage", "groups", "not-for", "history")
    ]
    assert places == sorted(places)


def test_guidelines_are_complete() -> None:
    assert [item.number for item in CLAIM] == [str(n) for n in range(1, 45)]
    numbers = dict.fromkeys(item.number.rstrip("abcdefgh") for item in TRIPOD_AI)
    assert list(numbers) == [str(n) for n in range(1, 28)]


def test_override_is_shown_in_the_history(
    application: FastAPI, settings: Settings, tmp_path: Path
) -> None:
    services = application.state.services
    write_classifier(tmp_path, version="overridden", answer="normal", size=40, audited=False)
    with services.database.session() as session:
        model = register_classifier(session, settings, tmp_path, run=None, by=BY)
        activate(session, settings, model, by=BY, override=REASON)
    services.classifier.follow()
    text = TestClient(application).get("/trust").text
    assert "overridden" in text
    assert "although promotion checks had failed" in text
