"""Several screenings at once: deleted or reviewed together, within a clinic's rights."""

import re
import uuid

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from app.core.audit import AuditEvent
from app.screenings.stored_images import image_key
from app.screenings.tables import Review, Screening


def upload(client: TestClient, image: bytes, count: int) -> list[str]:
    """Screen an image several times; the ids."""
    answers = [client.post("/screenings", files={"image": ("a.png", image)}) for _ in range(count)]
    return [answer.headers["location"].rsplit("/", 1)[1] for answer in answers]


def audited(application: FastAPI, action: str, ids: list[str]) -> list[str]:
    """The actors of an action on screenings."""
    with application.state.services.database.sessions() as session:
        query = select(AuditEvent.actor).where(
            AuditEvent.action == action, AuditEvent.subject.in_(ids)
        )
        return list(session.scalars(query))


def there(application: FastAPI, ids: list[str]) -> list[bool]:
    """Which screenings are there; their images with them."""
    services = application.state.services
    with services.database.sessions() as session:
        found = [session.get(Screening, uuid.UUID(one)) is not None for one in ids]
    assert found == [services.storage.get(image_key(uuid.UUID(one))) is not None for one in ids]
    return found


def test_selected_screenings_are_deleted_after_a_question(
    application: FastAPI, visitor: TestClient, image_bytes: bytes
) -> None:
    ids = upload(visitor, image_bytes, 3)
    entries = visitor.get("/screenings?order=oldest").text
    assert re.findall(r'name="id" value="([\w-]+)"( checked)?', entries) == [(i, "") for i in ids]
    everything = re.search(r'href="([^"]+)" data-action="all"', entries)
    assert everything
    ticked = visitor.get(everything[1].replace("&amp;", "&")).text
    assert ticked.count('" checked autocomplete') == 3
    # The filter survives the way there and back.
    query = {"id": [*ids[:2]], "order": "oldest"}
    question = visitor.get("/selection/delete", params=query).text
    assert "Delete 2 screenings permanently" in question
    action = re.search(r'method="post" action="([^"]+)"', question)
    assert action
    assert there(application, ids) == [True] * 3
    visitor.post(f"/screenings/{ids[1]}/delete")  # in another window
    answer = visitor.post(action[1], data={"id": ids[:2]})
    assert answer.headers["location"] == "/screenings?order=oldest&deleted=1&missing=1"
    shown = visitor.get(answer.headers["location"]).text
    assert "1 screening was deleted." in shown
    assert "1 selected screening was not there any more." in shown
    assert there(application, ids) == [False, False, True]
    assert len(audited(application, "screening.deleted", ids)) == 2


def test_nobody_deletes_or_reviews_what_is_not_theirs(
    application: FastAPI, visitor: TestClient, clinician: TestClient, image_bytes: bytes
) -> None:
    own, others = upload(clinician, image_bytes, 1), upload(visitor, image_bytes, 1)
    for path in ("delete", "review"):
        found = clinician.get(f"/selection/{path}", params={"id": others})
        assert found.status_code == 404
    clinician.post("/selection/delete", data={"id": [*own, *others]})
    assert there(application, [*own, *others]) == [False, True]
    # Another site cannot send the form, and visitors review nothing.
    headers = {"Sec-Fetch-Site": "cross-site"}
    refused = visitor.post("/selection/delete", data={"id": others}, headers=headers)
    assert refused.status_code == 403
    assert visitor.get("/selection/review", params={"id": others}).status_code == 303
    assert visitor.get("/selection/delete").status_code == 400
    assert visitor.get("/selection/delete", params={"id": "x"}).status_code == 422


def test_selected_screenings_get_one_review_or_none(
    application: FastAPI, clinician: TestClient, image_bytes: bytes
) -> None:
    ids = upload(clinician, image_bytes, 3)
    form = clinician.get("/selection/review", params={"id": ids, "review": "unreviewed"}).text
    seen = re.findall(r'name="seen" value="([\w-]+)"', form)
    assert seen == ["none"] * 3
    data = {"id": re.findall(r'name="id" value="([\w-]+)"', form), "seen": seen}
    no_reason = clinician.post("/selection/review", data={**data, "label": "covid"})
    assert no_reason.status_code == 422
    assert "Enter a reason" in no_reason.text
    # One of them is reviewed meanwhile: none is saved, and the page says so.
    clinician.post(f"/screenings/{ids[1]}/review", data={"label": "not-readable"})
    stale = clinician.post("/selection/review", data={**data, "label": "not-readable"})
    assert stale.status_code == 409
    assert len(audited(application, "screening.reviewed", ids)) == 1
    again = re.findall(r'name="seen" value="([\w-]+)"', stale.text)
    saved = clinician.post(
        "/selection/review", data={**data, "seen": again, "label": "not-readable"}
    )
    assert saved.headers["location"] == "/screenings?marked=3"
    assert "3 screenings were reviewed." in clinician.get(saved.headers["location"]).text
    with application.state.services.database.sessions() as session:
        query = select(Review.label).where(Review.screening_id.in_(map(uuid.UUID, ids)))
        assert session.scalars(query).all() == ["not-readable"] * 4
    assert len(set(audited(application, "screening.reviewed", ids))) == 1


@pytest.mark.parametrize("path", ["delete", "review"])
def test_selection_is_bounded(clinician: TestClient, path: str) -> None:
    ids = [str(uuid.uuid4()) for _ in range(201)]
    assert clinician.get(f"/selection/{path}", params={"id": ids}).status_code == 422
