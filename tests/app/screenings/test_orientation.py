"""Images that lie on their side or have inverted greys are corrected, and it is said."""

import csv
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.accounts.tables import Clinic
from app.datasets.corrections import ORIENTATION, write_corrections
from app.screenings.tables import Review, Screening
from ml.data.manifest import DEMONSTRATION_FOLDER, read_manifest
from ml.imaging.decode import read_image
from ml.imaging.image_warnings import SHOWN_AS_SENT, ImageWarning
from ml.imaging.orientation import OrientationCheck
from ml.imaging.preprocessing import standardise
from tests.support.images import png


@pytest.fixture(scope="module")
def check() -> OrientationCheck:
    return OrientationCheck.load()


@pytest.fixture(scope="module")
def upright(check: OrientationCheck) -> np.ndarray:  # type: ignore[type-arg]
    """A demonstration image that the check takes for a chest X-ray however it is turned."""
    for record in read_manifest(DEMONSTRATION_FOLDER):
        pixels = read_image(record.path.read_bytes(), least_side=record.least_side).pixels
        image = standardise(pixels, 224)
        found = [check.find(np.rot90(image, k).copy()).quarter_turns for k in range(4)]
        if found == [0, 3, 2, 1] and check.find(255 - image).inverted and check.find(image).upright:
            return image
    pytest.fail("no demonstration image is recognised")


def shares(
    client: TestClient,
    image: np.ndarray,  # type: ignore[type-arg]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    sent = client.post("/api/v1/screenings", files={"image": ("image.png", png(image))})
    assert sent.status_code == 201, sent.text
    return sent.json()["probabilities"], sent.json()["warnings"]


def test_inverted_and_rotated_images_get_the_answer_of_the_upright_one(
    clinic: TestClient,
    upright: np.ndarray,  # type: ignore[type-arg]
) -> None:
    expected, warnings = shares(clinic, upright)
    assert warnings == []
    changes = (
        (255 - upright, ImageWarning("inverted")),
        (np.rot90(upright, -1).copy(), ImageWarning("rotated", {"degrees": "90"})),
    )
    for changed, warning in changes:
        found, warnings = shares(clinic, changed)
        assert warnings == [warning.as_json() | {"text": warning.text}]
        assert found == pytest.approx(expected, abs=0.02)


def test_image_is_shown_upright_with_its_warning(
    visitor: TestClient,
    upright: np.ndarray,  # type: ignore[type-arg]
) -> None:
    """Sent on its side and inverted, larger than the model input and not square."""
    tall = np.pad(np.kron(upright, np.ones((3, 3), np.uint8)), ((0, 0), (40, 40)))
    sent = png(255 - np.rot90(tall, -1))
    files = {"image": ("image.png", sent)}
    page = visitor.post("/screenings", files=files, follow_redirects=True)
    for code in ("inverted", "rotated"):
        text = ImageWarning(code, {"degrees": "90"}).text  # type: ignore[arg-type]
        assert f'<p class="notice">{text}</p>' in page.text
    shown = read_image(visitor.get(f"{page.url.path}/image").content)
    assert np.array_equal(shown.pixels, tall)
    assert f'width="{tall.shape[1]}" height="{tall.shape[0]}"' in page.text
    small = read_image(visitor.get(f"{page.url.path}/thumbnail").content)
    assert small.width > small.height
    listed = visitor.get("/screenings").text
    assert "Warning: inverted grey levels, rotated image" in listed
    (row,) = csv.DictReader(visitor.get("/screenings.csv").text.splitlines())
    assert row["warning_codes"] == "inverted rotated"
    answer = visitor.post("/screenings", files=files, headers={"Accept": "application/json"})
    assert len(answer.json()["warnings"]) == 2


def test_reviewed_image_that_is_stored_rotated_is_left_out(
    visitor: TestClient,
    upright: np.ndarray,  # type: ignore[type-arg]
    tmp_path: Path,
) -> None:
    """As rows of before the correction of stored images are; new ones are corrected."""
    services = visitor.app.state.services  # type: ignore[attr-defined]
    pages = [
        visitor.post("/screenings", files={"image": ("a.png", png(image))}, follow_redirects=True)
        for image in (np.rot90(upright).copy(), upright)
    ]
    with services.database.session() as session:
        for page in pages:
            row = session.get(Screening, uuid.UUID(page.url.path.rpartition("/")[2]))
            clinic = Clinic(name=str(row.id))
            session.add(clinic)
            session.flush()
            session.add(Review(screening_id=row.id, clinic_id=clinic.id, label="covid"))
            if row.warnings:
                old = ImageWarning("rotated", {SHOWN_AS_SENT: "yes"})
                row.warnings = [old.as_json()]
    with services.database.sessions() as session:
        written, left_out = write_corrections(session, services.storage, tmp_path)
    assert written == 1
    assert [(one.reason, "rotated" in one.detail) for one in left_out] == [(ORIENTATION, True)]
