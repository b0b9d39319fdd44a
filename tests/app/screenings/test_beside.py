"""The page of a screening: another image beside it, lengths, and what is printed."""

import re

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.screenings.views import PixelSpacing, pixel_spacing
from tests.app.screenings.test_list import change, upload


def test_image_of_the_same_reference_is_shown_beside(
    visitor: TestClient, outsider: TestClient, image_bytes: bytes
) -> None:
    first, _other, second = (
        upload(visitor, image_bytes, reference=name) for name in ("S 1", "S 2", "S 1")
    )
    theirs = upload(outsider, image_bytes, reference="S 1")
    page = visitor.get(f"{second}?order=oldest").text
    ids = re.findall(r'<option value="([\w-]{36})"', page)
    # The prior image of the reference comes first, then the neighbour in the list.
    assert ids == [first.rsplit("/", 1)[1], _other.rsplit("/", 1)[1]]
    assert 'name="order" value="oldest"' in page
    assert f'src="{first}/image"' not in page
    beside = visitor.get(f"{second}?beside={ids[0]}").text
    assert f'src="{first}/image"' in beside
    stranger = theirs.rsplit("/", 1)[1]
    assert visitor.get(f"{second}?beside={stranger}").status_code == 404
    # A shared page shows no other image.
    visitor.post(f"{second}/share")
    link = re.search(rf"{second}\?share=[\w-]+", visitor.get(second).text)
    assert link
    shared = TestClient(outsider.app).get(f"{link[0]}&beside={ids[0]}").text
    assert "Compare with" not in shared
    assert f"{first}/image" not in shared


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"PixelSpacing": "0.143\\0.143"}, PixelSpacing(0.143, at_detector=False)),
        ({"ImagerPixelSpacing": "0.2\\0.2"}, PixelSpacing(0.2, at_detector=True)),
        ({"PixelSpacing": "0.1\\0.3", "ImagerPixelSpacing": "0.2\\0.2"}, PixelSpacing(0.2, True)),
        ({"PixelSpacing": "0\\0"}, None),
        ({"PixelSpacing": "0.143"}, None),
        ({}, None),
    ],
)
def test_spacing_of_pixels(metadata: dict[str, str], expected: PixelSpacing | None) -> None:
    assert pixel_spacing(metadata) == expected


def test_print_has_id_link_and_both_images(
    application: FastAPI, visitor: TestClient, image_bytes: bytes
) -> None:
    address = upload(visitor, image_bytes)
    change(application, address, image_metadata={"PixelSpacing": "0.143\\0.143"}, label="normal")
    page = visitor.get(address).text
    assert 'data-mm="0.143"' in page
    assert f"<dd>{address.rsplit('/', 1)[1]}</dd>" in page
    assert f"<dd>http://testserver{address}</dd>" in page
    sheet = page.split('class="sheet-images"')[1].split("</div>")[0]
    assert f'<img src="{address}/image"' in sheet
    assert f'href="{address}/heatmaps/normal.png"' in sheet
