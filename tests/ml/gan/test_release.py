"""A generator is released with metrics, a graph, a card and samples that all belong to one file."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.data.manifest import ImageRecord, in_split
from ml.data.splits import Split
from ml.errors import BundleError
from ml.gan import release
from ml.gan.generator_file import GENERATOR, PRETRAINED, load_generator
from ml.gan.onnx_generator import CARD, GRAPH, GeneratorGraph
from ml.gan.release import (
    SHEET,
    is_released,
    release_generator,
    usual_samples,
)
from ml.gan.sampling import sample_images
from ml.gan.training import train_gan
from ml.legacy import rename_keys
from ml.reporting.generator_card import render_generator_card
from tests.support import REPOSITORY
from tests.support.gan_world import (
    CPU,
    LABELS,
    SIDE,
    pixel_space,
    tiny,
    untrained,
    write_images,
)

IMAGES = {Split.TRAIN: 16, Split.VALIDATION: 8, Split.TEST: 12}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    return write_images(tmp_path_factory.mktemp("images"), IMAGES)


@pytest.fixture(scope="module")
def folder(records: list[ImageRecord], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("release")
    options = tiny(labels="covid,normal", conditional=True)
    trained = train_gan(records, root / "run", options, device=CPU, features=pixel_space())
    release_generator(
        trained, records, root / "out", features=[pixel_space()], samples=16, quiet=True
    )
    return root


def test_release_makes_the_images_of_the_run(folder: Path) -> None:
    images = [
        sample_images(load_generator(path).network, range(4), [0, 1, 0, 1], length=8)
        for path in (folder / "run" / GENERATOR, folder / "out" / GENERATOR)
    ]
    assert np.array_equal(*images)


def test_card_and_samples_belong_to_the_file(folder: Path) -> None:
    loaded = load_generator(folder / "out" / GENERATOR)
    card = json.loads((folder / "out" / CARD).read_text())
    assert card["sha256"] == loaded.sha256
    assert rename_keys(card)["metrics"] == loaded.card.as_json()["metrics"]
    assert {"samples", "real", "pixels", "spaces", "notes"} == set(card["metrics"])
    assert card["licence"]
    trained = (folder / "run" / GENERATOR).read_bytes()
    assert card["trained_sha256"] == hashlib.sha256(trained).hexdigest()
    assert GeneratorGraph.load(folder / "out").sha256 == loaded.sha256
    with Image.open(folder / "out" / SHEET) as sheet:
        shown = np.asarray(sheet)
    second = sample_images(loaded.network, [1], 1, length=8)[0]
    # Rounding may differ between batches.
    assert np.abs(shown[:SIDE, SIDE : 2 * SIDE].astype(int) - second).max() <= 1


def test_release_is_whole_or_not_there(
    folder: Path, records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, out = folder / "run" / GENERATOR, tmp_path / "deep" / "out"
    assert is_released(trained, folder / "out")
    assert not is_released(folder / "out" / GENERATOR, folder / "out")

    def fail(_: object) -> bytes:
        raise BundleError("the graph's images differ")

    def make() -> None:
        release_generator(trained, records, out, features=[pixel_space()], samples=16, quiet=True)

    monkeypatch.setattr(release, "export_graph", lambda _: b"graph")
    (tmp_path / "deep").mkdir()
    # A process that was killed left this.
    (tmp_path / "deep" / ".out.part").mkdir()
    (tmp_path / "deep" / ".out.part" / CARD).write_text("half of it")
    with monkeypatch.context() as patch:
        patch.setattr(release, "export_graph", fail)
        with pytest.raises(BundleError):
            make()
    assert not list((tmp_path / "deep").iterdir())
    assert not is_released(trained, out)
    make()
    names = [GENERATOR, GRAPH, CARD, SHEET]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    # The same generator and images make the same release, also over one that is there.
    first = {name: (out / name).read_bytes() for name in names}
    (out / SHEET).write_bytes(b"")
    make()
    assert first == {name: (out / name).read_bytes() for name in names}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_generator_that_cannot_be_measured_is_released_and_says_so(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    few = [*in_split(records, Split.TRAIN), *in_split(records, Split.TEST)[:3]]
    trained = tmp_path / "g.safetensors"
    untrained(trained, records, tiny("gan", labels=",".join(LABELS)))
    released = release_generator(
        trained, few, tmp_path / "out", features=[pixel_space()], quiet=True
    )
    assert released.evaluation is None
    note = released.generator.card.notes[-1]
    assert note.startswith("Not measured. The test split has 3 images of covid, normal with")
    page = render_generator_card(released.generator)
    assert note in page
    assert "## Metrics" not in page


def test_samples_are_as_many_as_test_images_within_bounds(records: list[ImageRecord]) -> None:
    assert usual_samples(records, LABELS) == 64
    test = in_split(records, Split.TEST)
    assert usual_samples(test * 4, LABELS) == 4 * 2 * IMAGES[Split.TEST]
    assert usual_samples(test * 8, ["covid"]) == 8 * IMAGES[Split.TEST]
    assert usual_samples(test * 40, LABELS) == 512


def test_card_as_a_page_names_the_file_and_its_metrics(folder: Path) -> None:
    loaded = load_generator(folder / "out" / GENERATOR)
    page = render_generator_card(loaded)
    assert loaded.sha256 in page
    assert "COVID-19, Normal, made on demand" in page
    assert "### pixels (000000000000)" in page
    assert "| KID | " in page
    assert "research" in page
    fresh = render_generator_card(load_generator(folder / "run" / GENERATOR))
    assert "## Metrics" not in fresh


def test_released_generator_has_the_card_and_the_samples_beside_it() -> None:
    loaded = load_generator(PRETRAINED)
    card = json.loads((PRETRAINED.parent / CARD).read_text())
    assert card["sha256"] == loaded.sha256
    assert rename_keys(card)["metrics"] == loaded.card.as_json()["metrics"]
    assert card["licence"] == loaded.card.licence != ""
    page = (REPOSITORY / "docs" / "generator-card.md").read_text()
    assert page == render_generator_card(loaded)
    side, classes = loaded.card.options.size, len(loaded.labels)
    with Image.open(PRETRAINED.parent / SHEET) as sheet:
        shown = np.asarray(sheet)
    assert shown.shape == (8 * side, 8 * side)
    images = sample_images(
        loaded.network, range(8), [n % classes for n in range(8)], length=loaded.card.options.latent
    )
    # Another processor rounds otherwise; another seed would differ by dozens of grey levels.
    assert np.abs(shown[:side].astype(int) - np.concatenate(list(images), axis=1)).max() <= 4
