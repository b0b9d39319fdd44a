"""Films that give way to their copies among the films that measure."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.data.leaks import without_leaks
from ml.data.manifest import FilmRecord, read_manifest
from ml.data.near_duplicates import hash_films
from ml.data.splits import Split, split_of
from ml.data.summary import find_duplicates

PATIENTS = {
    part: next(f"p{number}" for number in range(99) if split_of(f"p{number}") is part)
    for part in Split
}


@pytest.fixture
def film(tmp_path: Path) -> FilmRecord:
    grey = np.random.default_rng(3).integers(0, 256, (12, 12), np.uint8)
    path = tmp_path / "film.png"
    Image.fromarray(grey).resize((128, 128), Image.Resampling.BICUBIC).save(path)
    return FilmRecord(path, "covid", "a", PATIENTS[Split.TRAIN])


@pytest.mark.parametrize(
    ("one", "other", "left"),
    [
        (Split.TRAIN, Split.TEST, Split.TEST),
        (Split.VALIDATION, Split.TRAIN, Split.VALIDATION),
        (Split.TEST, Split.VALIDATION, Split.TEST),
    ],
)
def test_a_copy_gives_way_to_the_film_that_measures(
    film: FilmRecord, one: Split, other: Split, left: Split
) -> None:
    films = [replace(film, patient=PATIENTS[part]) for part in (one, other)]
    assert [kept.split for kept in without_leaks(films)] == [left]


def test_copies_in_one_split_stay(film: FilmRecord) -> None:
    films = [film, replace(film, source="b")]
    assert without_leaks(films) == films


def test_every_film_gives_way_to_a_source_that_is_left_out(film: FilmRecord) -> None:
    films = [replace(film, patient=PATIENTS[Split.TEST]), replace(film, source="b")]
    assert without_leaks(films, left_out="b") == films[1:]


def test_films_that_are_all_alike_give_way_to_those_of_the_test(
    film: FilmRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = [replace(film, patient=f"p{number}") for number in range(300)]
    monkeypatch.setattr(
        "ml.data.leaks.hash_records", lambda all_: np.zeros((len(all_), 3, 3), np.uint64)
    )
    assert without_leaks(films) == [film for film in films if film.split is Split.TEST]


def test_real_films_that_are_left_do_not_leak(data_folder: Path) -> None:
    records = read_manifest(data_folder)
    left = without_leaks(records)
    assert not find_duplicates(left, hash_films([film.path for film in left])).leaks
    assert [film for film in records if film.split is Split.TEST] == [
        film for film in left if film.split is Split.TEST
    ]
