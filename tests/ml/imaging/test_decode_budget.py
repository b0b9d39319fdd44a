"""Files whose header promises more than they hold are refused before they are decoded."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.screenings import decoder_process
from ml.imaging.corrections import UPRIGHT
from ml.imaging.decode import read_image
from ml.imaging.decode_budget import require_affordable, webp_size
from ml.imaging.types import UnreadableImage
from tests.support.images import jpeg, png, synthetic_image

# Its header names a canvas, as with animations.
EXIF = Image.Exif()
EXIF[0x0131] = "a program"


def extended(width: int, height: int, padding: int = 4) -> bytes:
    """A WebP file that is a header and nothing else."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + size
    body = b"WEBP" + chunk + b"\0" * padding
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp(width: int, height: int, **options: Any) -> bytes:
    grey = synthetic_image(np.random.default_rng(1), height, width)
    file = io.BytesIO()
    Image.fromarray(grey).convert("RGB").save(file, "WEBP", **options)
    return file.getvalue()


def test_header_of_34_bytes_never_reaches_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = extended(7000, 7000)
    assert len(bomb) == 34

    def decode(*_: object, **__: object) -> None:
        pytest.fail("the file was decoded")

    monkeypatch.setattr(decoder_process, "read_image", decode)
    reply = decoder_process._decode(bomb, 64, UPRIGHT)
    assert "Export the image" in str(reply.header)


@pytest.mark.parametrize(
    ("content", "code"),
    [(extended(7000, 7000), "too-large"), (extended(4000, 4000), "damaged")],
)
def test_promise_beyond_the_budget_is_refused(content: bytes, code: str) -> None:
    with pytest.raises(UnreadableImage) as refused:
        require_affordable(content)
    assert refused.value.code == code


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}, {"exif": EXIF}])
def test_size_of_every_kind_of_webp_is_read(options: dict[str, Any]) -> None:
    content = webp(301, 222, **options)
    assert webp_size(content) == (301, 222)
    require_affordable(content)
    assert read_image(content).pixels.shape == (222, 301)


def test_other_files_and_fragments_have_no_size() -> None:
    image = synthetic_image(np.random.default_rng(1), 200, 200)
    for content in (png(image), jpeg(image), b"", b"RIFF", extended(9, 9)[:29]):
        assert webp_size(content) is None
        require_affordable(content)
