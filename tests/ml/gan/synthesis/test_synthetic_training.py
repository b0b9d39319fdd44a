"""Synthetic images train, at the share asked for, and measure nothing."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ml.classifier import networks
from ml.classifier.export import export_bundle
from ml.classifier.networks import Backbone
from ml.classifier.sampling import count_synthetic, sampling_weights
from ml.classifier.trained_run import load_run
from ml.classifier.training import ClassifierOptions, train_classifier
from ml.data.importers.import_images import import_images
from ml.data.loading import ImageSplits, load_images
from ml.data.manifest import ImageRecord, in_split, read_manifest, read_synthetic_manifest
from ml.data.near_duplicates import hash_images
from ml.data.splits import Split, split_of
from ml.data.summary import find_duplicates
from ml.errors import CheckpointError, DataError, XrayError
from ml.evaluation.evaluate import left_out_images
from ml.labels import LABELS
from ml.reporting.model_card import render_model_card
from tests.ml.data.test_importers import classes, reasons
from tests.ml.data.test_near_duplicates import cropped, textured_image
from tests.ml.evaluation.test_evaluation import xray
from tests.support.classifier_world import SIDE, tiny
from tests.support.gan_world import CPU
from tests.support.images import png

GENERATOR = "ab" * 32
SOURCE = f"synthetic-{GENERATOR[:12]}"
# A patient's key that would be in the test split if it were a person's.
OF_TEST = next(f"{SOURCE}-{n}" for n in range(99) if split_of(f"{SOURCE}-{n}") is Split.TEST)


def write_set(root: Path, rows: Sequence[tuple[str, str, str, str]]) -> Path:
    """A data set: label, source, patient and generator of each image."""
    root.mkdir(parents=True)
    with (root / "manifest.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(("image", "label", "source", "patient", "synthetic"))
        for number, (label, *rest) in enumerate(rows):
            image = textured_image(1000 * len(rows) + number)
            (root / f"{root.name}-{number}.png").write_bytes(png(image))
            writer.writerow((f"{root.name}-{number}.png", label, *rest))
    return root


@pytest.fixture
def real(tmp_path: Path) -> Path:
    rows = [(LABELS[n % 3], "north", f"p{n}", "") for n in range(60)]
    return write_set(tmp_path / "real", rows)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    rows = [("covid", SOURCE, f"{SOURCE}-{n}", GENERATOR) for n in range(12)]
    return write_set(tmp_path / "made", rows)


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> ClassifierOptions:
    monkeypatch.setitem(networks.BACKBONES, "report-cnn", Backbone(tiny, features=12, size=SIDE))
    return ClassifierOptions(network="report-cnn", epochs=1, small_epochs=0, batch_size=16)


def test_a_synthetic_image_only_trains_whatever_its_patient() -> None:
    image = ImageRecord(Path("a.png"), "covid", SOURCE, OF_TEST, synthetic=GENERATOR)
    assert image.split is Split.TRAIN
    assert replace(image, synthetic="").split is Split.TEST


def test_synthetic_rows_of_a_data_set_stay_out_of_validation_and_test(tmp_path: Path) -> None:
    rows = [("covid", SOURCE, f"{SOURCE}-{n}", GENERATOR) for n in range(40)]
    rows += [("normal", "north", f"p{n}", "") for n in range(40)]
    records = read_manifest(write_set(tmp_path / "mixed", rows))
    for part in (Split.VALIDATION, Split.TEST):
        chosen = in_split(records, part)
        assert chosen
        assert {image.source for image in chosen} == {"north"}
    assert count_synthetic(in_split(records, Split.TRAIN)) == {
        GENERATOR: {"covid": 40, "normal": 0}
    }


def test_real_images_do_not_come_in_as_synthetic(real: Path, made: Path, tmp_path: Path) -> None:
    assert len(read_synthetic_manifest(made)) == 12
    with pytest.raises(DataError, match=r"60 images not marked as synthetic.*real-0.png"):
        read_synthetic_manifest(real)
    mixed = [("covid", SOURCE, "s-1", GENERATOR), ("covid", "north", "p1", "")]
    with pytest.raises(DataError, match=r"1 image not marked as synthetic.*mixed-1.png"):
        read_synthetic_manifest(write_set(tmp_path / "mixed", mixed))
    out = tmp_path / "run"
    with pytest.raises(XrayError, match="not marked as synthetic"):
        xray("train", "classifier", "--data", real, "--out", out, "--synthetic", real)
    assert not out.exists()


def test_what_is_no_generator_is_named_with_its_row(tmp_path: Path) -> None:
    rows = [("covid", "north", "p1", ""), ("covid", "north", "p2", "yes")]
    with pytest.raises(DataError, match="row 3: synthetic is 'yes'"):
        read_manifest(write_set(tmp_path / "wrong", rows))


@pytest.mark.parametrize("count", [5, 900])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_share_of_synthetic_images_is_the_one_asked_for(count: int, share: float) -> None:
    images = [ImageRecord(Path(), "covid", source, "p") for source in ("a", "a", "a", "a", "b")]
    images += [ImageRecord(Path(), "normal", "a", "p")] * 7
    images += [ImageRecord(Path(), "covid", SOURCE, "p", synthetic=GENERATOR)] * count
    chances = sampling_weights(images, share)
    assert chances[12:].sum() == pytest.approx(share / 2)
    assert chances[5:12].sum() == pytest.approx(1 / 2)
    # Real images keep their proportions among themselves: a source counts by the root of its size.
    assert chances[:4].sum() == pytest.approx(2 * chances[4])


def test_run_and_card_tell_of_synthetic_images(
    real: Path, made: Path, options: ClassifierOptions, tmp_path: Path
) -> None:
    records, synthetic = read_manifest(real), read_synthetic_manifest(made)
    run, counts = tmp_path / "run", {GENERATOR: {"covid": 12, "pneumonia": 0, "normal": 0}}
    train_classifier([*records, *synthetic], run, options, device=CPU)
    assert json.loads((run / "options.json").read_text())["synthetic"] == counts
    with pytest.raises(CheckpointError, match="images of the data set"):
        train_classifier([*records, *synthetic[1:]], run, options, device=CPU)
    with pytest.raises(CheckpointError, match="synthetic_share"):
        train_classifier(
            [*records, *synthetic], run, replace(options, synthetic_share=0.2), device=CPU
        )

    loaded = load_run(run)
    splits = ImageSplits(*(load_images(in_split(records, part), SIDE, title="") for part in Split))
    card = export_bundle(loaded, splits, tmp_path / "bundle", version="1")
    assert card.data.synthetic == counts
    assert SOURCE not in card.data.by_source["train"]
    assert f"| `{GENERATOR[:12]}` | 12 | 0 | 0 |" in render_model_card(card)
    without = card.model_copy(update={"data": card.data.model_copy(update={"synthetic": {}})})
    assert "synthetic" not in render_model_card(without)


def test_synthetic_images_do_not_prolong_an_epoch(
    real: Path, made: Path, options: ClassifierOptions, tmp_path: Path
) -> None:
    drawn: list[int] = []

    def count(_row: dict[str, float]) -> None:
        drawn.append(batches)

    for number, extra in enumerate(([], read_synthetic_manifest(made))):
        batches = 0

        def tell() -> bool:
            nonlocal batches
            batches += 1
            return False

        records = [*read_manifest(real), *extra]
        out = tmp_path / f"run{number}"
        train_classifier(records, out, options, device=CPU, on_tick=count, should_stop=tell)
    assert drawn[0] == drawn[1] > 0


def test_command_trains_with_synthetic_images(
    real: Path, made: Path, options: ClassifierOptions, tmp_path: Path
) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    quick = ("--network", "report-cnn", "--epochs", 1, "--small-epochs", 0)
    extra = ("--synthetic", made, "--synthetic-share", 0.25)
    xray("train", "classifier", "--data", real, "--out", run, *quick, *extra)
    assert load_run(run).options.synthetic_share == 0.25
    xray("export", "classifier", "--data", real, "--run", run, "--out", bundle)
    card = json.loads((bundle / "card.json").read_text())
    assert card["data"]["synthetic"][GENERATOR]["covid"] == 12


def test_import_takes_a_image_that_a_synthetic_one_resembles(tmp_path: Path) -> None:
    """Synthetic images come first here: a real one is no near-duplicate to be left out."""
    to = tmp_path / "set"
    import_images("folders", classes(tmp_path / "one", covid_1=textured_image(1)), to)
    text = (to / "manifest.csv").read_text()
    header, row = text.splitlines()
    (to / "manifest.csv").write_text(f"{header},synthetic\n{row},{GENERATOR}\n")
    report = import_images(
        "folders", classes(tmp_path / "two", covid_7=cropped(textured_image(1))), to
    )
    assert report.added == {"covid": 1}
    assert not reasons(report)
    assert [image.synthetic for image in read_manifest(to)] == [GENERATOR, ""]
    assert read_manifest(to)[1].patient == "two-7"


def test_summary_counts_synthetic_images_and_their_leaks(tmp_path: Path) -> None:
    """A synthetic copy leaks where a test image stands on the other side, and only there."""
    (tmp_path / "one.png").write_bytes(png(textured_image(1)))
    (tmp_path / "two.png").write_bytes(png(cropped(textured_image(1))))
    people = {part: next(f"p{n}" for n in range(99) if split_of(f"p{n}") is part) for part in Split}
    copy = ImageRecord(tmp_path / "two.png", "covid", SOURCE, OF_TEST, synthetic=GENERATOR)
    for part, leaks in ((Split.TRAIN, 0), (Split.TEST, 1)):
        images = [ImageRecord(tmp_path / "one.png", "covid", "a", people[part]), copy]
        found = find_duplicates(images, hash_images([image.path for image in images]))
        assert len(found.groups) == 1
        assert len(found.leaks) == leaks
    rows = [("covid", SOURCE, "s-1", GENERATOR), ("normal", "north", "p1", "")]
    shown = xray("data", "summary", write_set(tmp_path / "set", rows), "--no-duplicates")
    assert "synthetic images: 1" in shown
    assert "Every image has the label normal." in " ".join(shown.split())


def test_synthetic_images_are_no_unknown_hospital(made: Path) -> None:
    from ml.classifier.bundle import PRETRAINED, read_bundle

    card, _ = read_bundle(PRETRAINED)
    card = card.model_copy(update={"options": replace(card.options, leave_out=SOURCE)})
    with pytest.raises(DataError, match="No image is from"):
        left_out_images(card, read_synthetic_manifest(made), SOURCE)
