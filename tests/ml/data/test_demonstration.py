"""The demonstration set: shipped whole, marked as what it is, and enough for every job."""

import csv
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ml.classifier.card_texts import (
    LIMITATIONS,
    LIMITATIONS_OF_SOURCE,
    STAND_INS,
    UNKNOWN_PATIENTS,
    UNSEEN_HOSPITALS,
    limitations_of,
)
from ml.commands.data import data_app
from ml.data import demonstration as demonstration_set
from ml.data.demonstration import IMAGES, choose_images, make_demonstration, patient_of
from ml.data.manifest import (
    DEMONSTRATION,
    DEMONSTRATION_FOLDER,
    MANIFEST,
    ImageRecord,
    is_demonstration,
    read_manifest,
)
from ml.data.near_duplicates import hash_records
from ml.data.splits import Split
from ml.data.summary import find_duplicates
from ml.data.versioning import read_version, verify_version
from ml.errors import DataError
from ml.gan.evaluation.real_images import LEAST_IMAGES
from ml.gan.onnx_generator import PRETRAINED, GeneratorGraph
from ml.gan.synthesis.privacy_check import LEAST_HELD_OUT
from ml.gan.synthesis.watermark import marked
from ml.labels import LABELS


@pytest.fixture(scope="module")
def records() -> list[ImageRecord]:
    return read_manifest(DEMONSTRATION_FOLDER)


@pytest.fixture(scope="module")
def generator() -> GeneratorGraph:
    return GeneratorGraph.load(PRETRAINED)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (DEMONSTRATION_FOLDER / MANIFEST).open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_it_is_what_was_frozen() -> None:
    summary = verify_version(DEMONSTRATION_FOLDER)
    assert summary.images == summary.demonstration == 3 * sum(IMAGES.values())
    assert (summary.leaks, summary.duplicates, summary.synthetic) == (0, 0, 0)
    assert (DEMONSTRATION_FOLDER / "contact-sheet.jpg").is_file()


def test_it_is_small() -> None:
    files = [path for path in DEMONSTRATION_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_200_000


def test_every_split_has_images_of_every_class(records: list[ImageRecord]) -> None:
    """Enough of each for every run type, also to check and measure a generator of one class."""
    counts = Counter((record.split, record.label) for record in records)
    assert counts == {(part, label): IMAGES[part] for part in Split for label in LABELS}
    assert min(IMAGES.values()) >= max(LEAST_IMAGES, LEAST_HELD_OUT)
    assert IMAGES[Split.VALIDATION] >= 24
    assert len({record.patient for record in records}) == len(records)


def test_no_image_is_a_near_duplicate_of_another(records: list[ImageRecord]) -> None:
    assert not find_duplicates(records, hash_records(records)).groups


def test_every_image_says_what_it_is(records: list[ImageRecord], generator: GeneratorGraph) -> None:
    """In its row and in its file, but not in its pixels, which networks learn from."""
    assert is_demonstration(records)
    corners = []
    for record in records:
        assert record.source == DEMONSTRATION
        assert not record.synthetic
        found = re.fullmatch(r"synthetic: seed (\d+) of generator ([0-9a-f]{64})", record.finding)
        assert found
        with Image.open(record.path) as image:
            text, radiograph = dict(image.info), np.asarray(image)
        assert (text["synthetic"], text["class"]) == ("true", record.label)
        assert (text["seed"], text["generator_sha256"]) == found.groups()
        assert found[2] == generator.sha256
        word = marked(radiograph) != radiograph
        assert word.any()
        # The corner differs from image to image: nothing is written there.
        corners.append(radiograph[-7:, :20].tobytes())
    assert len(set(corners)) == len(records)


def test_images_are_those_of_the_released_generator(
    rows: list[dict[str, str]], generator: GeneratorGraph
) -> None:
    """Anybody can make them again, to the rounding of a grey level."""
    for row in rows[::40]:
        seed = int(row["patient"].removeprefix("demo-"))
        radiograph = generator.images([seed], row["label"])[0].astype(int)
        with Image.open(DEMONSTRATION_FOLDER / row["image"]) as image:
            assert np.abs(radiograph - np.asarray(image)).max() <= 1


def test_the_set_is_made_by_a_rule(
    rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, generator: GeneratorGraph
) -> None:
    """A few of each split: the first seeds, in their order."""
    few = dict.fromkeys(Split, 2)
    monkeypatch.setattr(demonstration_set, "IMAGES", few)
    first: Counter[tuple[Split, str]] = Counter()
    expected = []
    shipped = {row["patient"]: row["label"] for row in rows}
    for seed in range(200):
        label = shipped.get(patient_of(seed))
        if label is None:
            continue
        place = ImageRecord(Path(), label, "", patient_of(seed)).split, label
        first[place] += 1
        if first[place] <= 2:
            expected.append(seed)
    found = [one.seed for one in choose_images(generator)]
    assert found == expected


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demonstration_set, "IMAGES", dict.fromkeys(Split, 1))


def test_the_command_makes_and_freezes_it(tmp_path: Path, few: None) -> None:
    folder = tmp_path / "demonstration"
    done = CliRunner().invoke(data_app, ["demonstration", f"--out={folder}"])
    assert done.exit_code == 0, done.exception
    assert "nothing about patients" in done.output
    assert read_version(folder).images == 9
    assert verify_version(folder).demonstration == 9
    with pytest.raises(DataError, match="already"):
        make_demonstration(folder, GeneratorGraph.load(PRETRAINED))


def test_the_card_of_a_classifier_says_it_first(records: list[ImageRecord]) -> None:
    others = [replace(record, source="hospital") for record in records]
    assert limitations_of(others) == [UNSEEN_HOSPITALS, *LIMITATIONS, UNKNOWN_PATIENTS]
    assert limitations_of([*others, records[0]])[0] == STAND_INS
    assert "say nothing about patients" in STAND_INS


def test_the_card_names_the_limitations_of_its_own_sources(records: list[ImageRecord]) -> None:
    record = replace(records[0], label="covid", sex="F", age="40")
    mixed = [
        replace(record, source="nih"),
        replace(record, source="clinic"),
        replace(record, source="clinic", label="tuberculosis"),
    ]
    limits = limitations_of(mixed)
    assert "1 of the 2 sources has images of every class" in limits[0]
    assert limits[1:] == [LIMITATIONS_OF_SOURCE["nih"], UNSEEN_HOSPITALS, *LIMITATIONS]
    assert "none of the 2 sources has images" in limitations_of([mixed[0], mixed[2]])[0]


def test_summary_warns_of_it() -> None:
    done = CliRunner().invoke(data_app, ["summary", str(DEMONSTRATION_FOLDER), "--no-duplicates"])
    assert done.exit_code == 0
    assert "Metrics on them say nothing about patients" in " ".join(done.output.split())
