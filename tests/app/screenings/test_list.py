"""The list of screenings: references, filters, order, neighbours, CSV; and repeated requests."""

import csv
import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from app.core.database import now
from app.screenings.tables import Screening
from tests.support.images import png, synthetic_image


def upload(client: TestClient, image: bytes, **fields: str) -> str:
    """Screen an image; the address of its page."""
    answer = client.post("/screenings", files={"image": ("chest 7.png", image)}, data=fields)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def change(application: FastAPI, address: str, **values: object) -> None:
    """Change the row of a screening."""
    with application.state.services.database.session() as session:
        row = session.get_one(Screening, uuid.UUID(address.rsplit("/", 1)[1]))
        for name, value in values.items():
            setattr(row, name, value)


def listed(client: TestClient, query: str = "") -> list[str]:
    """The pages of the screenings in a list, in their order."""
    text = client.get(f"/screenings{query}").text
    return re.findall(r'class="history-row" href="(/screenings/[0-9a-f-]+)', text)


@pytest.fixture
def four(application: FastAPI, visitor: TestClient, image_bytes: bytes) -> list[str]:
    """Four screenings of a visitor, oldest first: two days, three results."""
    addresses = [upload(visitor, image_bytes, reference=f"Study {n}") for n in range(4)]
    decisions = ("covid", "uncertain", "normal", "uncertain")
    reasons = (None, "low-confidence", None, "out-of-distribution")
    for number, address in enumerate(addresses):
        change(
            application,
            address,
            label=("covid", "pneumonia", "normal", "normal")[number],
            decision=decisions[number],
            reason=reasons[number],
            confidence=(0.5, 0.9, 0.9, 0.7)[number],
            created_at=now() - timedelta(days=9 if number < 2 else 0, minutes=10 - number),
        )
    return addresses


def test_reference_is_shown_and_searched_for(visitor: TestClient, four: list[str]) -> None:
    assert "Study 2" in visitor.get(four[2]).text
    assert "Study 2" in visitor.get("/screenings").text
    assert listed(visitor, "?reference=study+2") == [four[2]]
    # A wildcard of the database is a letter like others.
    assert listed(visitor, "?reference=%25") == []


def test_file_name_is_kept_only_where_the_sender_wants_it(
    visitor: TestClient, image_bytes: bytes
) -> None:
    assert "chest 7" not in visitor.get(upload(visitor, image_bytes)).text
    named = upload(visitor, image_bytes, **{"keep-names": "yes"})
    assert "chest 7.png" in visitor.get(named).text
    long = visitor.post(
        "/screenings", files={"image": ("a.png", image_bytes)}, data={"reference": "x" * 101}
    )
    assert long.status_code == 422
    assert "at most 100 characters" in long.text


def test_list_is_filtered_and_ordered(
    clinician: TestClient, visitor: TestClient, four: list[str]
) -> None:
    newest_first = four[::-1]
    assert listed(visitor) == newest_first
    assert listed(visitor, "?order=oldest") == four
    by_probability = listed(visitor, "?order=most-confident")
    assert by_probability[2:] == [four[3], four[0]]
    assert listed(visitor, "?order=least-confident") == by_probability[::-1]
    assert listed(visitor, "?decision=uncertain") == [four[3], four[1]]
    assert listed(visitor, "?label=normal") == [four[3], four[2]]
    assert listed(visitor, "?decision=uncertain&label=pneumonia") == [four[1]]
    day = f"{now():%Y-%m-%d}"
    assert listed(visitor, f"?since={day}") == [four[3], four[2]]
    assert listed(visitor, f"?until={now() - timedelta(days=2):%Y-%m-%d}") == [four[1], four[0]]
    assert "No such screenings" in visitor.get("/screenings?reference=nothing").text
    for wrong in ("?since=yesterday", "?order=random", "?review=perhaps"):
        assert visitor.get(f"/screenings{wrong}").status_code == 422


def test_unreviewed_screenings_are_found(
    application: FastAPI, clinician: TestClient, image_bytes: bytes
) -> None:
    first, second = (upload(clinician, image_bytes) for _ in range(2))
    clinician.post(f"{first}/review", data={"label": "not-readable"})
    assert listed(clinician, "?review=unreviewed") == [second]
    assert listed(clinician, "?review=reviewed") == [first]


def test_pages_of_a_filtered_list_show_every_screening_once(
    application: FastAPI, visitor: TestClient, image_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.screenings.queries.screenings_page.__defaults__", (None, 2))
    addresses = [upload(visitor, image_bytes, reference="mine") for _ in range(5)]
    for number, address in enumerate(addresses):
        change(application, address, confidence=number / 10)
    for order in ("oldest", "least-confident"):
        found, link = [], f"/screenings?reference=mine&order={order}"
        while link:
            text = visitor.get(link).text
            found += re.findall(r'class="history-row" href="(/screenings/[0-9a-f-]+)', text)
            following = re.search(r'href="(/screenings\?[^"]*before=[^"]*)" rel="next"', text)
            link = following[1].replace("&amp;", "&") if following else ""
        assert found == addresses


def test_next_and_previous_follow_the_filtered_list(
    visitor: TestClient, outsider: TestClient, four: list[str]
) -> None:
    page = visitor.get(f"{four[3]}?decision=uncertain").text
    assert f'href="{four[1]}?decision=uncertain" rel="next"' in page
    assert 'rel="prev"' not in page
    least = visitor.get(f"{four[3]}?order=least-confident").text
    assert f'href="{four[0]}?order=least-confident" rel="prev"' in least
    middle = visitor.get(four[1]).text
    assert f'href="{four[2]}" rel="prev"' in middle
    assert f'href="{four[0]}" rel="next"' in middle
    # A shared page leads to no other.
    visitor.post(f"{four[1]}/share")
    link = re.search(rf"{four[1]}\?share=[\w-]+", visitor.get(four[1]).text)
    assert link
    assert "rel=" not in re.sub(r"<link[^>]*>", "", outsider.get(link[0]).text)


def test_list_is_downloaded_as_csv(
    application: FastAPI, visitor: TestClient, outsider: TestClient, four: list[str]
) -> None:
    change(application, four[0], reference="=HYPERLINK(1)")
    answer = visitor.get("/screenings.csv?order=oldest")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert [row["id"] for row in rows] == [address.rsplit("/", 1)[1] for address in four]
    # No spreadsheet takes a reference for a formula.
    assert [row["reference"] for row in rows][:2] == ["'=HYPERLINK(1)", "Study 1"]
    assert rows[1]["uncertain_because"].startswith("top class ")
    (only,) = csv.DictReader(visitor.get("/screenings.csv?reference=study+3").text.splitlines())
    assert only["uncertain_because"].startswith("out of distribution: score ")
    assert len(outsider.get("/screenings.csv").text.splitlines()) == 1


def test_value_and_threshold_stand_beside_every_uncertain(
    visitor: TestClient, four: list[str]
) -> None:
    page, entries = visitor.get(four[1]).text, visitor.get("/screenings").text
    threshold = r"[Tt]op class \d+\.\d+ %, threshold \d+\.\d+ %"
    assert re.search(threshold, page)
    assert len(re.findall(threshold, entries)) == 1
    limit = r"[Oo]ut of distribution: score \d+\.\d\d, limit \d+\.\d\d"
    assert re.search(limit, visitor.get(four[3]).text)
    assert len(re.findall(limit, entries)) == 1


def test_repeated_request_makes_no_second_screening(
    new_clinic: Callable[[str], TestClient], image_bytes: bytes
) -> None:
    clinic, other = new_clinic("repeats"), new_clinic("other")
    headers = {"Idempotency-Key": "study 17, image 3"}

    def send(client: TestClient, image: bytes = image_bytes) -> object:
        files = {"image": ("a.png", image)}
        data = {"reference": "study 17"}
        answer = client.post("/api/v1/screenings", files=files, data=data, headers=headers)
        return answer.json()["id"] if answer.status_code == 201 else answer.json()["code"]

    with ThreadPoolExecutor(4) as threads:
        made = set(threads.map(lambda _: send(clinic), range(4)))
    assert len(made) == 1
    assert {send(clinic)} == made
    assert len(clinic.get("/api/v1/screenings").json()["screenings"]) == 1
    # Another clinic's key is another one, and another image is no repetition.
    assert send(other) not in made
    another = png(synthetic_image(np.random.default_rng(8), 320, 288))
    assert send(clinic, another) == "conflict"


def test_program_finds_its_screenings_again(
    application: FastAPI, new_clinic: Callable[[str], TestClient], image_bytes: bytes
) -> None:
    clinic = new_clinic("finds")
    for number in range(3):
        sent = clinic.post(
            "/api/v1/screenings",
            files={"image": ("a.png", image_bytes)},
            data={"reference": f"R-{number}"},
        )
        assert sent.json()["reference"] == f"R-{number}"
    found = clinic.get("/api/v1/screenings?reference=r-1").json()["screenings"]
    assert [one["reference"] for one in found] == ["R-1"]
    page = clinic.get("/api/v1/screenings?limit=2&order=oldest").json()
    assert [one["reference"] for one in page["screenings"]] == ["R-0", "R-1"]
    rest = clinic.get(page["next"]).json()
    assert [one["reference"] for one in rest["screenings"]] == ["R-2"]
    assert rest["next"] is None
    assert clinic.get("/api/v1/screenings?since=2026-99-01").status_code == 422
    with application.state.services.database.sessions() as session:
        references = session.scalars(select(Screening.reference)).all()
    assert "R-2" in references
