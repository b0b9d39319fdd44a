"""Reviews: who may say what an image shows, what is kept of it, and the data set it becomes."""

import re
import uuid
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import select
from starlette.testclient import TestClient

from app.accounts.api_keys import create_key
from app.accounts.tables import Clinic, Role, User
from app.accounts.users import open_session
from app.core.audit import AuditEvent
from app.core.security import SESSION_COOKIE
from app.datasets.corrections import write_corrections
from app.screenings.reviews import count_reviewed, reviewed_labels
from app.screenings.stored_images import image_key
from app.screenings.tables import Review, Screening
from ml.data.manifest import read_manifest
from ml.labels import LABELS, label_name
from tests.support.images import png, synthetic_image

SignIn = Callable[[str], TestClient]


def upload(client: TestClient, image: bytes) -> str:
    """Screen an image; the address of its page."""
    answer = client.post("/screenings", files={"image": ("image.png", image)})
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def id_of(address: str) -> uuid.UUID:
    return uuid.UUID(address.rsplit("/", 1)[1])


def answered(application: FastAPI, address: str) -> str:
    """The label that the model gave."""
    with application.state.services.database.sessions() as session:
        row: Screening = session.get_one(Screening, id_of(address))
    return row.label


def another(label: str) -> str:
    return next(one for one in LABELS if one != label)


def reviews(application: FastAPI, address: str) -> list[Review]:
    """All reviews of a screening, oldest first."""
    with application.state.services.database.sessions() as session:
        query = select(Review).where(Review.screening_id == id_of(address))
        return list(session.scalars(query.order_by(Review.created_at)))


@pytest.fixture
def colleague(application: FastAPI) -> Callable[[TestClient], TestClient]:
    """Signs in another clinician of the same clinic."""

    def make(first: TestClient) -> TestClient:
        clinic_id = clinic_of(application, first)
        with application.state.services.database.session() as session:
            name = f"colleague {uuid.uuid4()}"
            user = User(name=name, password_hash="none", role=Role.CLINICIAN, clinic_id=clinic_id)
            session.add(user)
            session.flush()
            token = open_session(session, user)
        return TestClient(application, follow_redirects=False, cookies={SESSION_COOKIE: token})

    return make


def clinic_of(application: FastAPI, client: TestClient) -> uuid.UUID:
    """The clinic of who is signed in, by the name in the frame of every page."""
    name = re.search(
        r'href="/account"[^>]*><span[^>]*>Account: </span>([^<]+)<', client.get("/").text
    )
    assert name
    with application.state.services.database.sessions() as session:
        user: User = session.scalars(select(User).where(User.name == name[1])).one()
    assert user.clinic_id
    return user.clinic_id


def test_clinician_corrects_an_answer_and_the_newest_review_holds(
    application: FastAPI,
    clinician: TestClient,
    colleague: Callable[[TestClient], TestClient],
    image_bytes: bytes,
) -> None:
    address = upload(clinician, image_bytes)
    label = answered(application, address)
    wrong = another(label)
    first = {"label": wrong, "why": "PCR <positive>", "patient": "P-17"}
    sent = clinician.post(f"{address}/review", data=first)
    assert (sent.status_code, sent.headers["location"]) == (303, f"{address}#review")
    shown = clinician.get(address).text
    assert re.search(rf"(Corrected to|Reviewed as) <span[^>]*>{label_name(wrong)}<", shown)
    assert "PCR &lt;positive&gt;" in shown
    assert "patient code is recorded" in shown

    other = colleague(clinician)
    assert other.post(f"{address}/review", data={"label": label}).status_code == 303
    shown = clinician.get(address).text
    assert re.search(rf"(Confirmed as|Reviewed as) <span[^>]*>{label_name(label)}<", shown)
    assert "The readers disagree" in shown

    earlier, later = reviews(application, address)
    assert (earlier.label, later.label) == (wrong, label)
    assert earlier.user_id != later.user_id
    # Who leaves the patient out does not take back what was said; the code itself is nowhere.
    assert later.patient_key == earlier.patient_key
    assert "P-17" not in f"{earlier.patient_key} {shown}"
    with application.state.services.database.sessions() as session:
        subject = AuditEvent.subject == str(id_of(address))
        events = session.scalars(select(AuditEvent).where(subject).order_by(AuditEvent.at)).all()
        assert reviewed_labels(session, [id_of(address)]) == {id_of(address): label}
    assert [event.action for event in events] == [
        "screening.created",
        "screening.reviewed",
        "screening.reviewed",
    ]
    assert all(event.actor.startswith("user:") and not event.detail for event in events[1:])


def test_second_reader_does_not_see_the_first_answer_until_done(
    application: FastAPI,
    clinician: TestClient,
    colleague: Callable[[TestClient], TestClient],
    image_bytes: bytes,
) -> None:
    address = upload(clinician, image_bytes)
    label = answered(application, address)
    first = {"label": another(label), "why": "Kerley lines", "seen": "none"}
    assert clinician.post(f"{address}/review", data=first).status_code == 303
    second = colleague(clinician)
    shown = second.get(address).text
    assert "Another reader has reviewed this image" in shown
    for word in ("Kerley", "Corrected to", "Reviewed as", "Confirmed as"):
        assert word not in shown
    listed = second.get("/screenings").text
    assert "Reviewed as" not in listed
    seen = re.search('name="seen" value="([^"]+)"', shown)
    assert seen
    second.post(f"{address}/review", data={"label": label, "seen": seen[1]})
    shown = second.get(address).text
    assert "Kerley" in shown
    assert "The readers disagree" in shown
    assert "Reviewed as" in second.get("/screenings").text


def test_stale_review_is_refused_and_keeps_what_was_typed(
    application: FastAPI,
    clinician: TestClient,
    colleague: Callable[[TestClient], TestClient],
    image_bytes: bytes,
) -> None:
    address = upload(clinician, image_bytes)
    label = answered(application, address)
    second = colleague(clinician)
    unread = {"label": another(label), "why": "seen on CT", "seen": "none"}
    assert clinician.post(f"{address}/review", data={"label": label, "seen": "none"}).is_redirect
    late = second.post(f"{address}/review", data=unread)
    assert late.status_code == 409
    assert "in the meantime" in late.text
    assert "seen on CT" in late.text
    # Nor does the refusal reveal what the other reader said.
    assert "Confirmed as" not in late.text
    assert len(reviews(application, address)) == 1
    seen = re.search('name="seen" value="([^"]+)"', late.text)
    assert seen
    assert second.post(f"{address}/review", data=unread | {"seen": seen[1]}).is_redirect


def test_program_can_ask_that_its_review_is_not_stale(
    new_clinic: Callable[[str], TestClient], image_bytes: bytes
) -> None:
    clinic = new_clinic("stale")
    made = clinic.post("/api/v1/screenings", files={"image": image_bytes}).json()
    address = f"/api/v1/screenings/{made['id']}/review"
    first = clinic.post(address, json={"label": made["label"], "seen": "none"})
    assert first.status_code == 201
    stale = clinic.post(address, json={"label": made["label"], "seen": "none"})
    assert (stale.status_code, stale.json()["code"]) == (409, "conflict")
    current = {"label": made["label"], "seen": first.json()["id"]}
    assert clinic.post(address, json=current).status_code == 201


def test_image_that_shows_no_class_never_becomes_training_data(
    application: FastAPI, clinician: TestClient, image_bytes: bytes, tmp_path: Path
) -> None:
    services = application.state.services
    said: tuple[dict[str, str], ...] = (
        {"label": "other-finding", "finding": "pleural <effusion>"},
        {"label": "not-readable"},
        {"label": "not-frontal"},
    )
    addresses = [upload(clinician, image_bytes) for _ in said]
    first = addresses[0]
    refused = clinician.post(f"{first}/review", data={"label": "other-finding"})
    assert refused.status_code == 422
    assert "Enter the finding" in refused.text
    with services.database.sessions() as session:
        before = count_reviewed(session)
    # A class that was confirmed before counts no longer.
    clinician.post(f"{first}/review", data={"label": answered(application, first)})
    for address, data in zip(addresses, said, strict=True):
        assert clinician.post(f"{address}/review", data=data).status_code == 303
    shown = clinician.get(first).text
    assert "pleural &lt;effusion&gt;" in shown
    assert "Other finding" in clinician.get("/screenings").text
    assert "Not a frontal chest X-ray" in clinician.get(addresses[2]).text
    with services.database.sessions() as session:
        assert count_reviewed(session) == before
        write_corrections(session, services.storage, tmp_path / "set")
    for address in addresses:
        assert not list(tmp_path.rglob(f"{id_of(address)}*"))


def test_only_who_sees_a_image_and_is_signed_in_reviews_it(
    application: FastAPI,
    clinician: TestClient,
    sign_in: SignIn,
    visitor: TestClient,
    admin: TestClient,
    image_bytes: bytes,
) -> None:
    of_clinic, of_visitor = upload(clinician, image_bytes), upload(visitor, image_bytes)
    confirmed = {"label": answered(application, of_clinic)}
    assert 'name="why"' in clinician.get(of_clinic).text
    # A clinician of another clinic, and an admin, who belongs to none.
    for stranger in (sign_in("clinician"), admin):
        assert stranger.get(of_clinic).status_code == 404
        for address in (of_clinic, of_visitor):
            assert stranger.post(f"{address}/review", data=confirmed).status_code == 404
    # A visitor has no form, not even for their own image.
    assert 'name="why"' not in visitor.get(of_visitor).text
    json = {"accept": "application/json"}
    for address in (of_clinic, of_visitor):
        assert visitor.post(f"{address}/review", data=confirmed, headers=json).status_code == 401
        page = visitor.post(f"{address}/review", data=confirmed)
        assert page.headers["location"].startswith("/sign-in")
    foreign = {"origin": "https://elsewhere.example"}
    refused = clinician.post(f"{of_clinic}/review", data=confirmed, headers=foreign)
    assert refused.status_code == 403
    assert not reviews(application, of_clinic)
    assert not reviews(application, of_visitor)


def test_admin_reviews_a_image_of_the_own_browser(
    application: FastAPI, admin: TestClient, image_bytes: bytes
) -> None:
    address = upload(admin, image_bytes)
    label = answered(application, address)
    assert admin.post(f"{address}/review", data={"label": label}).status_code == 303
    (made,) = reviews(application, address)
    assert (made.label, made.patient_key, made.clinic_id) == (label, None, None)
    with application.state.services.database.sessions() as session:
        row = session.get_one(Screening, id_of(address))
    assert row.visitor_id


def test_shared_link_shows_no_review(
    application: FastAPI, clinician: TestClient, outsider: TestClient, image_bytes: bytes
) -> None:
    address = upload(clinician, image_bytes)
    wrong = another(answered(application, address))
    clinician.post(f"{address}/review", data={"label": wrong, "why": "seen on CT"})
    clinician.post(f"{address}/share")
    link = re.search(rf"{address}\?share=[\w-]+", clinician.get(address).text)
    assert link
    shown = outsider.get(link[0])
    assert shown.status_code == 200
    assert "seen on CT" not in shown.text
    assert 'id="review"' not in shown.text


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({}, "Choose what the image shows"),
        ({"label": "measles", "why": "spots"}, "Choose what the image shows"),
        ({"label": "WRONG"}, "Enter a reason"),
        ({"label": "WRONG", "why": "  "}, "Enter a reason"),
        ({"label": "WRONG", "why": "x" * 2001}, "at most 2,000 characters"),
        ({"label": "WRONG", "why": "CT", "patient": "p" * 201}, "at most 200 characters"),
    ],
)
def test_review_that_makes_no_sense_is_refused_on_the_page(
    application: FastAPI,
    clinician: TestClient,
    image_bytes: bytes,
    sent: dict[str, str],
    words: str,
) -> None:
    address = upload(clinician, image_bytes)
    wrong = another(answered(application, address))
    data = {name: wrong if value == "WRONG" else value for name, value in sent.items()}
    refused = clinician.post(f"{address}/review", data=data)
    assert refused.status_code == 422
    assert words in refused.text
    # What was typed is still there.
    assert data.get("why", "") in refused.text
    assert not reviews(application, address)


def test_deleting_a_screening_deletes_its_reviews(
    application: FastAPI, clinician: TestClient, image_bytes: bytes
) -> None:
    address = upload(clinician, image_bytes)
    clinician.post(f"{address}/review", data={"label": answered(application, address)})
    assert reviews(application, address)
    assert clinician.post(f"{address}/delete").status_code == 303
    assert not reviews(application, address)


def test_clinicians_pages_speak_of_their_clinic(
    application: FastAPI,
    clinician: TestClient,
    colleague: Callable[[TestClient], TestClient],
    sign_in: SignIn,
    visitor: TestClient,
    image_bytes: bytes,
) -> None:
    address = upload(clinician, image_bytes)
    with application.state.services.database.sessions() as session:
        row = session.get_one(Screening, id_of(address))
        clinic = session.get_one(Clinic, clinic_of(application, clinician))
    assert (row.clinic_id, row.visitor_id) == (clinic.id, None)
    other = colleague(clinician)
    clinician.post(f"{address}/review", data={"label": row.label})
    for member in (clinician, other):
        listed = member.get("/screenings").text
        assert address in listed
        assert f"1 image of {clinic.name}" in listed
        assert ("Reviewed as" in listed) is (member is clinician)
        assert ("Reviewed by another reader" in listed) is (member is other)
        assert "browser" not in listed
        assert address in member.get("/").text
        assert f"Only users of {clinic.name}" in member.get(address).text
    for stranger in (sign_in("clinician"), visitor):
        assert address not in stranger.get("/screenings").text
        assert address not in stranger.get("/").text
    nothing = sign_in("clinician").get("/screenings").text
    assert "Screenings of your clinic" in nothing


def test_clinics_key_and_its_clinicians_see_the_same_images(
    application: FastAPI, clinician: TestClient, image_bytes: bytes
) -> None:
    with application.state.services.database.session() as session:
        name = session.get_one(Clinic, clinic_of(application, clinician)).name
        key = create_key(session, name, "test")
    program = TestClient(application, headers={"Authorization": f"Bearer {key}"})
    made = program.post("/api/v1/screenings", files={"image": image_bytes}).json()
    address = f"/screenings/{made['id']}"
    assert address in clinician.get("/screenings").text
    sent = program.post(f"/api/v1{address}/review", json={"label": made["label"], "why": "CT"})
    assert sent.status_code == 201
    assert sent.json() == program.get(f"/api/v1{address}/review").json()
    assert (sent.json()["by"], sent.json()["confirms"]) == (name, True)
    clinician.post(f"{address}/review", data={"label": another(made["label"]), "why": "no"})
    assert f"By {name}" in clinician.get(address).text
    assert program.get(f"/api/v1{address}/review").json()["label"] == another(made["label"])


def test_api_refuses_reviews_of_others_and_nonsense(
    application: FastAPI, new_clinic: Callable[[str], TestClient], image_bytes: bytes
) -> None:
    ours, theirs = new_clinic("ours"), new_clinic("theirs")
    made = ours.post("/api/v1/screenings", files={"image": image_bytes}).json()
    address = f"/api/v1/screenings/{made['id']}/review"
    assert ours.get(address).status_code == 404
    confirmed = {"label": made["label"]}
    assert theirs.post(address, json=confirmed).status_code == 404
    assert TestClient(application).post(address, json=confirmed).status_code == 401
    refused = ours.post(address, json={"label": another(made["label"])})
    assert (refused.status_code, refused.json()["code"]) == (422, "bad-form")
    assert "Enter a reason" in refused.json()["detail"]
    assert ours.post(address, json={"why": "no label"}).status_code == 422
    assert ours.get(address).status_code == 404


def test_corrections_become_a_data_set(
    application: FastAPI, sign_in: SignIn, tmp_path: Path
) -> None:
    services = application.state.services
    rng = np.random.default_rng(3)
    one, two = sign_in("clinician"), sign_in("clinician")
    images = [png(synthetic_image(rng, 200, 180)) for _ in range(4)]
    first, second, third = (upload(one, image) for image in images[:3])
    unreviewed, elsewhere = upload(one, images[3]), upload(two, images[0])
    right = another(answered(application, first))
    one.post(f"{first}/review", data={"label": answered(application, first), "patient": "P-1"})
    one.post(f"{first}/review", data={"label": right, "why": "Mr Brown: CT", "patient": "P-1"})
    one.post(f"{second}/review", data={"label": answered(application, second), "patient": " P-1"})
    one.post(f"{third}/review", data={"label": answered(application, third)})
    # Another clinic's P-1 is another person.
    two.post(
        f"{elsewhere}/review", data={"label": answered(application, elsewhere), "patient": "P-1"}
    )
    with services.database.sessions() as session:
        expected = count_reviewed(session)
        assert write_corrections(session, services.storage, tmp_path / "set")[0] == expected
    records = {record.path.stem: record for record in read_manifest(tmp_path / "set")}
    assert len(records) == expected
    assert str(id_of(unreviewed)) not in records
    corrected, confirmed, nobody, other = (
        records[str(id_of(address))] for address in (first, second, third, elsewhere)
    )
    assert corrected.label == right
    assert corrected.finding.startswith("corrected from")
    assert confirmed.finding.startswith("confirmed")
    assert corrected.patient == confirmed.patient != other.patient
    assert corrected.split is confirmed.split
    assert nobody.patient == f"screening-{id_of(third)}"
    assert corrected.source == confirmed.source == nobody.source != other.source
    assert re.fullmatch("clinic-[0-9a-f]{12}", corrected.source)
    manifest = (tmp_path / "set" / "manifest.csv").read_text()
    assert "Brown" not in manifest
    assert "P-1" not in manifest
    assert Image.open(BytesIO(corrected.path.read_bytes())).size == (180, 200)
    assert corrected.path.read_bytes() == one.get(f"{first}/image").content


def test_image_that_is_gone_is_left_out_of_the_corrections(
    application: FastAPI, clinician: TestClient, image_bytes: bytes, tmp_path: Path
) -> None:
    services = application.state.services
    address = upload(clinician, image_bytes)
    clinician.post(f"{address}/review", data={"label": answered(application, address)})
    services.storage.delete(image_key(id_of(address)))
    with services.database.sessions() as session:
        reviewed = count_reviewed(session)
        assert write_corrections(session, services.storage, tmp_path / "set")[0] == reviewed - 1
    assert not list(tmp_path.rglob(f"{id_of(address)}*"))
