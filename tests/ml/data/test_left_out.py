"""Hospitals that are left out of training, by their site or their source."""

from pathlib import Path

import pytest

from ml.data.left_out import images_left_out, left_out_names, without_left_out
from ml.data.manifest import ImageRecord
from ml.errors import DataError


def image(source: str, site: str = "") -> ImageRecord:
    return ImageRecord(Path(f"{source}-{site}.png"), "normal", source, "patient", site=site)


# One published set has images of two hospitals, and one hospital is in two sets.
IMAGES = [image("public", "north"), image("public", "south"), image("other", "north"), image("own")]


def test_site_is_left_out_with_all_its_sources() -> None:
    assert without_left_out(IMAGES, "north") == [IMAGES[1], IMAGES[3]]
    assert images_left_out(IMAGES, "north") == [IMAGES[0], IMAGES[2]]


def test_source_is_left_out_with_all_its_sites() -> None:
    assert without_left_out(IMAGES, "public") == IMAGES[2:]


def test_source_without_sites_is_its_own_site() -> None:
    assert without_left_out(IMAGES, "own") == IMAGES[:3]


def test_several_names_stand_between_commas() -> None:
    assert left_out_names(" north, own,") == ("north", "own")
    assert without_left_out(IMAGES, "north, own") == [IMAGES[1]]


def test_empty_line_leaves_nothing_out() -> None:
    assert without_left_out(IMAGES, "") == IMAGES
    assert images_left_out(IMAGES, "") == []


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"'west'.*the sites north, own, south and the sources"):
        without_left_out(IMAGES, "north,west")
