"""Images that lie on their side or have inverted greys are corrected, and it is said."""

import numpy as np
import pytest
from starlette.testclient import TestClient

from ml.classifier.bundle import PRETRAINED
from ml.classifier.predictor import Predictor
from ml.classifier.upright import predict_upright
from ml.data.manifest import DEMONSTRATION_FOLDER, read_manifest
from ml.imaging.decode import read_image
from ml.imaging.orientation import OrientationCheck
from ml.imaging.preprocessing import standardise
from ml.imaging.types import IMAGE_WARNINGS
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


def shares(client: TestClient, image: np.ndarray) -> tuple[dict[str, float], list[str]]:  # type: ignore[type-arg]
    sent = client.post("/api/v1/screenings", files={"image": ("image.png", png(image))})
    assert sent.status_code == 201, sent.text
    return sent.json()["probabilities"], sent.json()["warnings"]


def test_inverted_and_rotated_images_get_the_answer_of_the_upright_one(
    clinic: TestClient,
    upright: np.ndarray,  # type: ignore[type-arg]
) -> None:
    expected, warnings = shares(clinic, upright)
    assert warnings == []
    for changed, code in ((255 - upright, "inverted"), (np.rot90(upright).copy(), "rotated")):
        found, warnings = shares(clinic, changed)
        assert warnings == [IMAGE_WARNINGS[code]]  # type: ignore[index]
        assert found == pytest.approx(expected, abs=0.02)


def test_warning_stands_on_the_page(
    visitor: TestClient,
    upright: np.ndarray,  # type: ignore[type-arg]
) -> None:
    page = visitor.post(
        "/screenings", files={"image": ("image.png", png(255 - upright))}, follow_redirects=True
    )
    assert f'<p class="notice">{IMAGE_WARNINGS["inverted"]}</p>' in page.text


def test_map_lies_over_the_image_as_it_was_sent(
    check: OrientationCheck,
    upright: np.ndarray,  # type: ignore[type-arg]
) -> None:
    predictor = Predictor.load(PRETRAINED)
    straight = predictor.predict(upright).activation_map
    turned, warnings = predict_upright(predictor, check, np.rot90(upright).copy())
    assert warnings == ("rotated",)
    assert np.allclose(turned.activation_map, np.rot90(straight, axes=(1, 2)), atol=1e-3)
