""" "Real or synthetic?": which images may be shown, what gives them away, what the answers say."""

import csv
import io
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from functools import cache

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from scipy.stats import binomtest
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.errors import Conflict
from app.core.rate_limit import RateLimit
from app.datasets.tables import DataKind, DataVersion
from app.datasets.versions import (
    DEMONSTRATION_NAME,
    allow_in_quiz,
    data_folder,
    ensure_demonstration,
)
from app.quiz import rounds as quiz
from app.quiz.contact_sheet import RIM, STEP, TILE
from app.quiz.selection import HALF, IMAGES, choose_source, may_be_shown
from app.quiz.statistics import Guesses, realism_over_readers, share_over_readers, wilson
from app.quiz.tables import QuizRound
from app.registry.queries import find_model
from app.registry.registration import register_generator
from app.settings import Settings
from ml.data.manifest import COLUMNS, DEMONSTRATION
from ml.gan.onnx_generator import PRETRAINED
from tests.support.images import png, synthetic_image
from tests.support.synthetic_set import new_generator, new_version

LABELS = ("covid", "pneumonia", "normal")


@pytest.fixture
def session(application: FastAPI) -> Iterator[Session]:
    with application.state.services.database.sessions() as opened:
        yield opened


@pytest.fixture(scope="module")
def released(application: FastAPI, settings: Settings) -> str:
    with application.state.services.database.session() as opened:
        return register_generator(opened, settings, PRETRAINED, run=None, by="test").sha256


@cache
def radiograph(number: int, side: int) -> bytes:
    return png(synthetic_image(np.random.default_rng(number), side, side))


def image_set(
    session: Session,
    settings: Settings,
    licences: list[str],
    *,
    allowed: bool = True,
    demonstration: int = 0,
    side: int = 72,
) -> DataVersion:
    """A data version with an image for each licence, each of a patient, the classes in turn.

    The first of them are images of the demonstration.
    """
    sha256 = uuid.uuid4().hex * 2
    folder = settings.home.resolve() / "data" / sha256
    folder.mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for number, licence in enumerate(licences):
            image = f"{number}.png"
            (folder / image).write_bytes(radiograph(number, side))
            source = DEMONSTRATION if number < demonstration else "hospital-of-people"
            row = {"image": image, "label": LABELS[number % 3], "source": source}
            size = {"width": str(side), "height": str(side)}
            writer.writerow(row | size | {"patient": f"p-{number}", "license": licence})
    version = new_version(session, sha256, DataKind.IMAGES)
    version.quiz_allowed = allowed
    return version


@pytest.fixture
def only(session: Session, application: FastAPI) -> Iterator[None]:
    """No images of people and no rounds but a test's own."""
    yield
    session.rollback()
    with application.state.services.database.session() as opened:
        opened.execute(update(DataVersion).values(quiz_allowed=False))
        opened.execute(delete(DataVersion).where(DataVersion.name == DEMONSTRATION_NAME))
        opened.execute(delete(QuizRound))


@pytest.fixture
def people(session: Session, settings: Settings, only: None) -> DataVersion:
    """Images of people that may be shown."""
    version = image_set(session, settings, ["CC BY 4.0"] * 15)
    session.commit()
    return version


def begin(client: TestClient, model: str) -> str:
    answer = client.post("/gallery/quiz", data={"model": model})
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def round_at(session: Session, address: str) -> QuizRound:
    session.expire_all()
    return session.get_one(QuizRound, uuid.UUID(address.rsplit("/", 1)[1]))


def answers(found: QuizRound, wrong: int = 0) -> dict[str, str]:
    """A form with the right words, and so many wrong ones."""
    truth = [bool(image["real"]) for image in found.images]
    said = [real != (number < wrong) for number, real in enumerate(truth)]
    return {f"image-{n}": "real" if real else "synthetic" for n, real in enumerate(said)}


# --- which images -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("CC BY 4.0", True),
        ("CC BY-NC-SA", True),
        ("cc  by-nc-sa 4.0", True),
        ("CC0", True),
        ("CC0-1.0", True),
        ("CC BY-NC-ND 4.0", False),
        ("CC BY-ND", False),
        ("", False),
        ("listed as authorized for everyone", False),
        ("all rights reserved", False),
        ("not CC BY", False),
    ],
)
def test_only_licences_that_allow_it_let_a_image_be_shown(licence: str, allowed: bool) -> None:
    assert may_be_shown(licence) is allowed


def test_images_are_shown_where_the_admin_and_the_licence_allow(
    session: Session, settings: Settings, released: str, only: None
) -> None:
    model = find_model(session, released)
    image_set(session, settings, ["CC BY 4.0"] * 12, allowed=False)
    image_set(session, settings, ["CC BY-ND 4.0", ""] * 12)
    image_set(session, settings, ["CC BY 4.0"] * 12, side=63)
    with pytest.raises(Conflict, match="no images to compare"):
        choose_source(session, settings, model, LABELS, [model])
    # Nine are no half of a round.
    image_set(session, settings, ["CC BY 4.0"] * 9 + ["CC BY-ND"] * 9)
    with pytest.raises(Conflict):
        choose_source(session, settings, model, LABELS, [model])
    allowed = image_set(session, settings, ["CC BY-SA 3.0", ""] * 10)
    found = choose_source(session, settings, model, LABELS, [model])
    assert found.counts
    assert {image.licence for image in found.pool} == {"CC BY 4.0", "CC BY-SA 3.0"}
    assert sum(image.data == allowed.sha256 for image in found.pool) == 10
    # A folder that was lost is no reason to show nothing else.
    (data_folder(settings, allowed) / "manifest.csv").unlink()
    with pytest.raises(Conflict):
        choose_source(session, settings, model, LABELS, [model])
    session.rollback()


def test_without_images_of_people_a_round_is_practice(
    session: Session, settings: Settings, released: str, only: None
) -> None:
    model = find_model(session, released)
    other = new_generator(session, LABELS)
    found = choose_source(session, settings, model, LABELS, [model, other])
    assert (found.counts, found.other) == (False, other)
    # The name of a data set does not make its images synthetic; nobody allowed them.
    image_set(session, settings, ["CC BY 4.0"] * 12, allowed=False, demonstration=12)
    assert choose_source(session, settings, model, LABELS, [model, other]).other == other
    shipped = ensure_demonstration(session, settings)
    found = choose_source(session, settings, model, LABELS, [model, other])
    assert not found.counts
    assert {image.data for image in found.pool} == {shipped.sha256}
    # Nor do they count as images of people where they are allowed as such.
    image_set(session, settings, ["CC BY 4.0"] * 21, demonstration=12)
    assert not choose_source(session, settings, model, LABELS, [model, other]).counts
    session.rollback()


def test_round_has_both_halves_of_the_same_classes_and_a_patient_once(
    session: Session, settings: Settings, released: str, people: DataVersion
) -> None:
    model = find_model(session, released)
    for _ in range(5):
        begun = quiz.begin(session, settings, uuid.uuid4().hex, model, LABELS, [model])
        real = [image for image in begun.images if image["real"]]
        made = [image for image in begun.images if not image["real"]]
        assert len(real) == len(made) == HALF
        assert Counter(image["label"] for image in real) == Counter(
            image["label"] for image in made
        )
        assert len({image["patient"] for image in real}) == HALF
    session.rollback()


# --- what gives them away ------------------------------------------------------------------------


def test_page_and_picture_do_not_tell_which_is_which(
    session: Session, visitor: TestClient, released: str, people: DataVersion
) -> None:
    address = begin(visitor, released)
    found = round_at(session, address)
    page = visitor.get(address).text
    for image in found.images:
        secret = str(image.get("seed") or image["image"])
        assert not re.search(rf"\b{re.escape(secret)}\b", page.replace(str(found.id), ""))
    assert "hospital-of-people" not in page
    # One picture for all, and the same markup for each.
    assert set(re.findall(r'<image href="([^"]+)"', page)) == {f"{address}/sheet.png"}
    items = re.findall(r"<li>\s*<fieldset.*?</li>", page, re.DOTALL)
    assert len(items) == IMAGES
    assert len({re.sub(r"\d+", "", item) for item in items}) == 1
    picture = Image.open(io.BytesIO(visitor.get(f"{address}/sheet.png").content))
    assert picture.size == (5 * STEP, 4 * STEP)
    assert picture.info == {}
    assert visitor.get(f"{address}/answers.png").status_code == 404


def tiles(content: bytes) -> list[np.ndarray]:
    sheet = np.asarray(Image.open(io.BytesIO(content)))
    return [
        sheet[STEP * (n // 5) + RIM :, STEP * (n % 5) + RIM :][:TILE, :TILE] for n in range(IMAGES)
    ]


def marks(content: bytes) -> list[bool]:
    """Which tiles have the black rim of the word's letters in their lower left corner."""
    return [bool((tile[-2:, :40] == 0).all()) for tile in tiles(content)]


def test_word_is_on_no_image_before_the_answers_and_then_on_the_synthetic(
    session: Session, visitor: TestClient, released: str, people: DataVersion
) -> None:
    address = begin(visitor, released)
    found = round_at(session, address)
    before = visitor.get(f"{address}/sheet.png").content
    assert visitor.get(f"{address}/sheet.png").content == before
    # Both halves use the whole range of greys.
    assert {(int(tile.min()), int(tile.max())) for tile in tiles(before)} == {(0, 255)}
    visitor.post(address, data=answers(found))
    after = visitor.get(f"{address}/answers.png").content
    assert marks(after) == [not image["real"] for image in found.images]
    assert marks(before) != marks(after)


def test_images_that_are_no_longer_allowed_are_shown_in_no_round(
    session: Session, visitor: TestClient, released: str, people: DataVersion
) -> None:
    address = begin(visitor, released)
    assert visitor.get(f"{address}/sheet.png").status_code == 200
    allow_in_quiz(session, people, False, by="test")
    session.commit()
    assert visitor.get(f"{address}/sheet.png").status_code == 404
    visitor.post(address, data=answers(round_at(session, address)))
    assert visitor.get(f"{address}/answers.png").status_code == 404
    assert visitor.get(f"{address}/sheet.png").status_code == 404


def test_all_images_of_practice_are_marked_and_it_says_so(
    session: Session, settings: Settings, visitor: TestClient, released: str, only: None
) -> None:
    ensure_demonstration(session, settings)
    session.commit()
    front = visitor.get("/gallery/quiz").text
    assert "practice" in front
    # It says what it compares, and promises no images of people.
    assert "All 20 are synthetic" in front
    assert "of people and" not in front
    address = begin(visitor, released)
    assert "does not count" in visitor.get(address).text
    assert all(marks(visitor.get(f"{address}/sheet.png").content))
    found = round_at(session, address)
    visitor.post(address, data=answers(found))
    assert "this round does not count" in visitor.get(address).text
    assert quiz.realism(session, released) is None


# --- a round's life ----------------------------------------------------------------------------


def test_reader_gets_a_score_and_the_generator_a_metric(
    session: Session, visitor: TestClient, released: str, people: DataVersion
) -> None:
    address = begin(visitor, released)
    found = round_at(session, address)
    assert visitor.post(address, data=answers(found, wrong=5)).status_code == 303
    page = visitor.get(address).text
    assert "15 of 20 correct" in page
    expected = binomtest(15, 20).proportion_ci(method="wilson")
    assert f"{100 * expected.low:.0f} to {100 * expected.high:.0f} %" in page
    assert "source hospital-of-people, CC BY 4.0" in page
    metric = quiz.realism(session, released)
    assert metric
    taken = sum(not image["real"] for image in found.images[:5])
    assert metric.synthetic.value == pytest.approx(taken / HALF)
    assert metric.real.value == pytest.approx(1 - (5 - taken) / HALF)
    assert (metric.readers, metric.rounds, metric.images) == (1, 1, HALF)
    assert f"{100 * metric.synthetic.value:.0f} %" in visitor.get("/gallery/quiz").text


def test_metric_is_of_readers_and_not_of_their_rounds(
    session: Session, visitor: TestClient, outsider: TestClient, released: str, people: DataVersion
) -> None:
    wrong = {visitor: (2, 7), outsider: (4,)}
    taken = Counter[bool]()
    for reader, rounds in wrong.items():
        for some in rounds:
            address = begin(reader, released)
            found = round_at(session, address)
            reader.post(address, data=answers(found, some))
            guesses = round_at(session, address).guesses or []
            both = zip(found.images, guesses, strict=True)
            taken.update(image["real"] for image, said in both if said)
    metric = quiz.realism(session, released)
    assert metric
    assert (metric.readers, metric.rounds, metric.images) == (2, 3, 3 * HALF)
    assert metric.synthetic.value == pytest.approx(taken[False] / (3 * HALF))
    assert metric.real.value == pytest.approx(taken[True] / (3 * HALF))


def test_answers_count_once(
    session: Session, visitor: TestClient, released: str, people: DataVersion
) -> None:
    address = begin(visitor, released)
    found = round_at(session, address)
    visitor.post(address, data=answers(found))
    for _ in range(2):
        assert visitor.post(address, data=answers(found, wrong=20)).status_code == 409
    with pytest.raises(Conflict):
        quiz.finish_round(session, found, [True] * IMAGES)
    session.rollback()
    found = round_at(session, address)
    assert (found.right, session.scalar(select(QuizRound.right))) == (20, 20)


def test_open_round_is_gone_on_with(
    session: Session, visitor: TestClient, released: str, people: DataVersion
) -> None:
    first = begin(visitor, released)
    assert begin(visitor, released) == first
    visitor.post(first, data=answers(round_at(session, first)))
    assert begin(visitor, released) != first


def test_round_is_its_readers_alone(
    session: Session,
    visitor: TestClient,
    outsider: TestClient,
    clinician: TestClient,
    released: str,
    people: DataVersion,
) -> None:
    address = begin(visitor, released)
    found = round_at(session, address)
    for stranger in (outsider, clinician):
        assert stranger.get(address).status_code == 404
        assert stranger.get(f"{address}/sheet.png").status_code == 404
        assert stranger.post(address, data=answers(found)).status_code == 404
    own = begin(clinician, released)
    assert clinician.get(own).status_code == 200


def test_missing_answers_are_asked_for_and_the_others_stay(
    session: Session, visitor: TestClient, released: str, people: DataVersion
) -> None:
    address = begin(visitor, released)
    given = answers(round_at(session, address))
    del given["image-3"]
    given["image-7"] = "cat"
    answer = visitor.post(address, data=given)
    assert answer.status_code == 422
    assert ">image 4</a>, <a" in answer.text
    assert answer.text.count(" checked") == IMAGES - 2
    assert round_at(session, address).finished_at is None


def test_round_expires(
    session: Session, visitor: TestClient, released: str, people: DataVersion
) -> None:
    address = begin(visitor, released)
    found = round_at(session, address)
    number, given = found.id, answers(found)
    old = found.started_at - quiz.EXPIRES - timedelta(seconds=1)
    session.execute(update(QuizRound).values(started_at=old))
    session.commit()
    assert visitor.get(address).status_code == 404
    assert visitor.post(address, data=given).status_code == 404
    assert begin(visitor, released) != address
    # Nobody can finish it any more, so it is not kept.
    session.expunge_all()
    assert session.get(QuizRound, number) is None


def test_open_rounds_are_bounded_and_nobody_is_kept_out(
    session: Session,
    visitor: TestClient,
    outsider: TestClient,
    clinician: TestClient,
    released: str,
    people: DataVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quiz, "MOST_OPEN", 2)
    finished = begin(visitor, released)
    visitor.post(finished, data=answers(round_at(session, finished)))
    oldest = begin(visitor, released)
    others = [begin(client, released) for client in (outsider, clinician)]
    # A new round is always allowed; the oldest open one is dropped.
    assert visitor.get(oldest).status_code == 404
    assert [outsider.get(others[0]).status_code, clinician.get(others[1]).status_code] == [200, 200]
    assert visitor.get(finished).status_code == 200


def test_one_address_cannot_begin_rounds_without_end(
    application: FastAPI,
    visitor: TestClient,
    outsider: TestClient,
    released: str,
    people: DataVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = RateLimit(1, 60)
    monkeypatch.setattr(application.state.services.quiz_rounds, "take", few.take)
    first = begin(visitor, released)
    # Continuing a round does not start another.
    assert begin(visitor, released) == first
    answer = outsider.post("/gallery/quiz", data={"model": released})
    assert answer.status_code == 429
    assert "rounds a day. Try again tomorrow." in answer.text


def test_round_of_no_generator_says_what_to_do(
    visitor: TestClient, released: str, people: DataVersion
) -> None:
    answer = visitor.post("/gallery/quiz", data={"model": "none"})
    assert answer.status_code == 409
    assert "Choose a generator from the list." in answer.text
    assert visitor.get(f"/gallery/quiz/{uuid.uuid4()}").status_code == 404
    assert visitor.get("/gallery/quiz/x").status_code == 404


def test_forms_are_for_our_own_pages(
    session: Session, visitor: TestClient, released: str, people: DataVersion
) -> None:
    address = begin(visitor, released)
    found = round_at(session, address)
    foreign = {"sec-fetch-site": "cross-site"}
    assert (
        visitor.post("/gallery/quiz", data={"model": released}, headers=foreign).status_code == 403
    )
    assert visitor.post(address, data=answers(found), headers=foreign).status_code == 403


# --- metrics -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "images"), [(0, 20), (7, 20), (20, 20), (431, 1000)])
def test_wilson_agrees_with_scipy(hits: int, images: int) -> None:
    expected = binomtest(hits, images).proportion_ci(method="wilson")
    share = wilson(hits, images)
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_readers_who_agree_are_as_many_independent_images() -> None:
    assert share_over_readers([(4, 10)] * 10) == wilson(40, 100)


def test_readers_who_differ_widen_the_interval() -> None:
    # Half of the readers take all images for real, half none: ten readers are ten observations.
    share = share_over_readers([(10 * (reader % 2), 10) for reader in range(10)])
    expected = wilson(4.5, 9)
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high))


def test_rounds_of_one_reader_are_one_reader() -> None:
    metric = realism_over_readers([Guesses(2, 8, 18, 20), Guesses(1, 4, 8, 10)])
    assert metric
    assert (metric.readers, metric.rounds, metric.images) == (2, 3, 30)
    assert metric.synthetic.value == pytest.approx(12 / 30)
    assert realism_over_readers([]) is None
