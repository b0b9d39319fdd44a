"""A generator is released with figures, a card and samples that all belong to one file."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.data import FilmRecord, Split
from ml.gan.generator_file import GENERATOR, PRETRAINED, load_generator
from ml.gan.release import CARD, SHEET, release_generator, render_generator_card
from ml.gan.sampling import sample_films
from ml.gan.training import train_gan
from tests.gan_world import CPU, SIDE, pixel_space, tiny, write_films

FILMS = {Split.TRAIN: 16, Split.VALIDATION: 8, Split.TEST: 12}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[FilmRecord]:
    return write_films(tmp_path_factory.mktemp("films"), FILMS)


@pytest.fixture(scope="module")
def folder(records: list[FilmRecord], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("release")
    options = tiny(labels="covid,normal", conditional=True)
    trained = train_gan(records, root / "run", options, device=CPU, features=pixel_space())
    release_generator(
        trained, records, root / "out", features=[pixel_space()], samples=16, quiet=True
    )
    return root


def test_release_makes_the_films_of_the_run(folder: Path) -> None:
    films = [
        sample_films(load_generator(path).network, range(4), [0, 1, 0, 1], length=8)
        for path in (folder / "run" / GENERATOR, folder / "out" / GENERATOR)
    ]
    assert np.array_equal(*films)


def test_card_and_samples_belong_to_the_file(folder: Path) -> None:
    loaded = load_generator(folder / "out" / GENERATOR)
    card = json.loads((folder / "out" / CARD).read_text())
    assert card["sha256"] == loaded.sha256
    assert card["figures"] == loaded.card.figures
    assert {"samples", "real", "pixels", "spaces", "notes"} == set(card["figures"])
    assert card["licence"]
    with Image.open(folder / "out" / SHEET) as sheet:
        shown = np.asarray(sheet)
    second = sample_films(loaded.network, [1], 1, length=8)[0]
    # Rounding may differ between batches.
    assert np.abs(shown[:SIDE, SIDE : 2 * SIDE].astype(int) - second).max() <= 1


def test_card_as_a_page_names_the_file_and_its_figures(folder: Path) -> None:
    loaded = load_generator(folder / "out" / GENERATOR)
    page = render_generator_card(loaded)
    assert loaded.sha256 in page
    assert "COVID-19, Normal, made on demand" in page
    assert "### pixels (000000000000)" in page
    assert "| KID | " in page
    assert "research" in page
    fresh = render_generator_card(load_generator(folder / "run" / GENERATOR))
    assert "## Figures" not in fresh


def test_released_generator_has_the_card_and_the_samples_beside_it() -> None:
    loaded = load_generator(PRETRAINED)
    card = json.loads((PRETRAINED.parent / CARD).read_text())
    assert card["sha256"] == loaded.sha256
    assert card["figures"] == loaded.card.figures
    assert card["licence"] == loaded.card.licence != ""
    page = (Path(__file__).parents[1] / "docs" / "generator-card.md").read_text()
    assert page == render_generator_card(loaded)
    side, classes = loaded.card.options.size, len(loaded.labels)
    with Image.open(PRETRAINED.parent / SHEET) as sheet:
        shown = np.asarray(sheet)
    assert shown.shape == (8 * side, 8 * side)
    films = sample_films(
        loaded.network, range(8), [n % classes for n in range(8)], length=loaded.card.options.latent
    )
    # Another processor rounds otherwise; another seed would differ by dozens of grey levels.
    assert np.abs(shown[:side].astype(int) - np.concatenate(list(films), axis=1)).max() <= 4
