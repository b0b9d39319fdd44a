"""HEIC photographs: the extra `heic`, which the tests install."""

import io

import numpy as np
import pytest
from PIL import Image

from app.screenings.decoder import ImageDecoder
from ml.imaging.decode import has_image_signature, read_image
from ml.imaging.display import display_image
from ml.imaging.types import UnreadableImage
from tests.support.images import encode, heic, synthetic_image

IMAGE = synthetic_image(np.random.default_rng(1), 160, 112)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_photograph_is_read(mode: str) -> None:
    content = heic(Image.fromarray(IMAGE).convert(mode))
    assert has_image_signature(content[:512])
    image = read_image(content)
    assert (image.format, image.bits, image.width, image.height) == ("HEIC", 8, 112, 160)
    assert np.abs(image.pixels.astype(int) - IMAGE).mean() < 1
    picture, kind = display_image(image, content)
    assert kind == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture))), image.pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photograph_is_turned_upright_once(orientation: int) -> None:
    # Phones note the orientation in the container and once more in the EXIF data.
    image = read_image(heic(Image.fromarray(IMAGE), orientation=orientation))
    upright = Image.fromarray(IMAGE)
    upright.getexif()[0x0112] = orientation
    expected = read_image(encode(upright, "PNG", exif=upright.getexif().tobytes())).pixels
    assert image.pixels.shape == expected.shape == (image.height, image.width)
    assert np.abs(image.pixels.astype(int) - expected).mean() < 1


def test_first_picture_of_several_is_read() -> None:
    content = heic(Image.fromarray(IMAGE), Image.fromarray(255 - IMAGE))
    assert np.abs(read_image(content).pixels.astype(int) - IMAGE).mean() < 1


def test_embedded_thumbnail_is_not_taken_for_the_picture() -> None:
    content = heic(Image.fromarray(IMAGE).resize((448, 640)), thumbnails=[128])
    assert read_image(content, shortest=64).pixels.shape == (640, 448)


def test_transparent_photograph_is_refused() -> None:
    picture = Image.fromarray(IMAGE).convert("RGBA")
    picture.putalpha(128)
    with pytest.raises(UnreadableImage, match="transparent"):
        read_image(heic(picture))


def test_size_is_checked_before_a_pixel_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = heic(Image.fromarray(IMAGE))
    monkeypatch.setattr("ml.imaging.types.MAX_PIXELS", 160 * 112 - 1)
    monkeypatch.setattr(
        "pillow_heif.as_plugin.HeifImageFile.load", lambda _: pytest.fail("decoded")
    )
    with pytest.raises(UnreadableImage) as refused:
        read_image(content)
    assert refused.value.code == "too-large"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_photograph_is_damaged(share: float) -> None:
    content = heic(Image.fromarray(IMAGE))
    with pytest.raises(UnreadableImage) as refused:
        read_image(content[: int(len(content) * share)])
    assert refused.value.code == "damaged"


def test_child_process_of_the_server_reads_a_photograph() -> None:
    with ImageDecoder(1, timeout_s=20) as decoder:
        image = decoder.decode(heic(Image.fromarray(IMAGE)), 64)
    assert (image.format, image.width, image.height) == ("HEIC", 112, 160)
