"""Nothing is lost or half-written: full database, busy server, damaged storage, many at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from app.core.fair_queue import FairQueue
from app.screenings.stored_images import STORED_IMAGES
from app.screenings.tables import Screening
from tests.support.images import dicom, png, synthetic_image
from tests.support.served import wait_until
from tests.support.services import changed_services


def count(application: FastAPI) -> tuple[int, int]:
    services = application.state.services
    with services.database.sessions() as session:
        rows = session.scalar(select(func.count()).select_from(Screening))
    return rows, len(list(services.storage.entries(STORED_IMAGES)))


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (OperationalError("INSERT", {}, Exception("disk full")), 503),
        (RuntimeError("disk full"), 500),
    ],
)
def test_database_that_fails_leaves_no_image(
    application: FastAPI,
    image_bytes: bytes,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    status: int,
) -> None:
    client = TestClient(application, raise_server_exceptions=False)
    before = count(application)

    def fail(*_: Any) -> None:
        raise fault

    monkeypatch.setattr("app.screenings.service.ScreeningService._record", fail)
    sent = client.post("/screenings", files={"image": image_bytes})
    assert sent.status_code == status
    assert "disk full" not in sent.text
    assert "default-src" in sent.headers["content-security-policy"]
    monkeypatch.undo()
    assert count(application) == before


def test_storage_that_fails_leaves_no_row(
    application: FastAPI, image_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TestClient(application, raise_server_exceptions=False)
    before = count(application)
    put = type(application.state.services.storage).put

    def second_fails(self: Any, key: str, content: bytes) -> None:
        if key.endswith("thumbnail"):
            raise OSError(28, "No space left on device")
        put(self, key, content)

    monkeypatch.setattr("app.core.storage.Storage.put", second_fails)
    assert client.post("/screenings", files={"image": image_bytes}).status_code == 507
    monkeypatch.undo()
    assert count(application) == before


def test_images_wait_for_their_turn_and_more_than_a_short_queue_get_503(
    application: FastAPI, image_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = application.state.services
    turns = FairQueue(2, 2.0, typical_s=1.0, busy="Too many images are being screened.")
    gate, begun = threading.Event(), threading.Semaphore(0)
    answer = type(services.screenings)._screen

    def wait_at_the_gate(*arguments: Any) -> Screening:
        begun.release()
        assert gate.wait(60)
        return answer(*arguments)

    monkeypatch.setattr(type(services.screenings), "_screen", wait_at_the_gate)
    before = count(application)

    def send() -> int:
        client = TestClient(application, follow_redirects=False)
        return int(client.post("/screenings", files={"image": image_bytes}).status_code)

    # Visitors have one of the two turns.
    with changed_services(application, turns=turns), ThreadPoolExecutor(3) as pool:
        admitted = [pool.submit(send) for _ in range(3)]
        begun.acquire(timeout=60)
        wait_until(lambda: turns.waiting == 2)
        client = TestClient(application, follow_redirects=False)
        refused = client.post("/screenings", files={"image": image_bytes})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert client.get("/screenings").status_code == 200, "pages are served meanwhile"
        gate.set()
        assert [one.result(60) for one in admitted] == [303, 303, 303]
    rows, files = count(application)
    assert (rows - before[0], files - before[1]) == (3, 6)


def test_many_at_once_are_all_recorded(application: FastAPI, image_bytes: bytes) -> None:
    before = count(application)

    def send(_: int) -> int:
        client = TestClient(application, follow_redirects=False)
        return int(client.post("/screenings", files={"image": image_bytes}).status_code)

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(send, range(36))) == {303}
    assert count(application) == (before[0] + 36, before[1] + 72)


TWINS = {
    "16-bit png": lambda image: png(image.astype(np.uint16) * 257),
    "12 bits in a 16-bit png": lambda image: png(image.astype(np.uint16) * 16),
    "dicom": dicom,
    "monochrome1 dicom": lambda image: dicom(255 - image, PhotometricInterpretation="MONOCHROME1"),
    "16-bit dicom": lambda image: dicom(image.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("kind", TWINS)
def test_twin_of_another_depth_scores_the_same(clinic: TestClient, kind: str) -> None:
    image = synthetic_image(np.random.default_rng(11), 400, 380)

    def probabilities(content: bytes) -> dict[str, float]:
        answer = clinic.post("/api/v1/screenings", files={"image": content})
        assert answer.status_code == 201, answer.text
        found: dict[str, float] = answer.json()["probabilities"]
        return found

    expected, given = probabilities(png(image)), probabilities(TWINS[kind](image))
    assert all(abs(expected[label] - given[label]) < 1e-3 for label in expected)
