"""The report's network and its protocol, in a tiny world: 32 x 32 images, one epoch."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ml.classifier import networks
from ml.classifier.export import export_bundle
from ml.classifier.networks import build_classifier
from ml.classifier.predictor import Predictor
from ml.classifier.trained_run import load_run
from ml.classifier.training import ClassifierOptions, train_classifier
from ml.data.loading import ImageSet, ImageSplits, load_images
from ml.data.manifest import ImageRecord, in_split
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError, XrayError
from ml.evaluation import reproduction
from ml.evaluation.report_augmentation import change_image
from ml.evaluation.reproduction import reproduce, split_as_reported, split_by_patient
from ml.evaluation.reproduction_result import CONDITIONS, TEST_SETS, ReproductionOptions
from ml.labels import LABELS
from tests.support.images import png, synthetic_image

CPU = torch.device("cpu")
SIDE = 32
TINY = ReproductionOptions(epochs=1, covid_images=120)
CROWD = {
    ("cohen", "covid"): 40,
    ("cohen", "pneumonia"): 6,
    ("kermany", "pneumonia"): 40,
    ("kermany", "normal"): 40,
    ("cxnet", "covid"): 6,
    ("nih", "normal"): 6,
    ("radiography", "covid"): 3,
}


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report's network for images of 32 px."""
    small = replace(networks.BACKBONES["report-cnn"], size=SIDE, flat_side=SIDE // 8)
    monkeypatch.setitem(networks.BACKBONES, "report-cnn", small)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    found = []
    for (source, label), count in CROWD.items():
        for number in range(count):
            path = folder / f"{source}-{label}-{number}.png"
            image = synthetic_image(random, 80, 72).astype(int)
            image[:40] += 40 * LABELS.index(label)
            path.write_bytes(png(np.clip(image, 0, 255).astype(np.uint8)))
            patient = f"{source}-{label}-{number // 2}"
            found.append(ImageRecord(path, label, source, patient))
    return found


@pytest.fixture(scope="module")
def reported(records: list[ImageRecord]) -> ImageSet:
    own = [one for one in records if (one.source, one.label) in reproduction.REPORTED_IMAGES]
    return load_images(own, SIDE, title="")


def test_report_network_is_the_one_of_the_report() -> None:
    network = build_classifier("report-cnn", 3)
    filters = [m.out_channels for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert filters == [32, 64, 128]
    assert network.dropout.p == 0.2
    assert network.head.in_features == 128 * (SIDE // 8) ** 2


def test_logit_is_the_mean_of_its_activation_map_plus_bias() -> None:
    network = build_classifier("report-cnn", 3).eval()
    images = torch.rand(2, 1, SIDE, SIDE)
    with torch.inference_mode():
        readout = network.read(images)
        expected = readout.activation_map.mean(dim=(2, 3)) + network.head.bias
        assert torch.allclose(readout.logits, expected, atol=1e-5)
        assert torch.allclose(readout.logits, network(images), atol=1e-6)
    assert readout.embedding.shape == (2, 128)


def test_report_network_is_trained_and_exported(records: list[ImageRecord], tmp_path: Path) -> None:
    options = ClassifierOptions(network="report-cnn", epochs=1, small_epochs=0, weight_decay=0.0)
    train_classifier(records, tmp_path / "run", options, device=CPU)
    splits = ImageSplits(*(load_images(in_split(records, part), SIDE, title="") for part in Split))
    # Export itself compares the graph with torch.
    export_bundle(load_run(tmp_path / "run"), splits, tmp_path / "bundle", version="r")
    answer = Predictor.load(tmp_path / "bundle").predict(splits.test.images[0])
    assert answer.activation_map.shape == (3, SIDE // 8, SIDE // 8)


def test_report_network_refuses_smaller_images(records: list[ImageRecord], tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="--small-epochs 0"):
        train_classifier(records, tmp_path, ClassifierOptions("report-cnn"), device=CPU)
    assert not list(tmp_path.iterdir())


def test_changed_image_is_the_image_a_little_moved() -> None:
    image = synthetic_image(np.random.default_rng(1), 128, 128)
    copies = [change_image(image, np.random.default_rng(seed)) for seed in range(20)]
    for copy in copies:
        assert copy.shape == image.shape
        assert (copy != image).any()
        # No empty corner: everything shown lies on the image.
        assert min(copy[row, column] for row in (0, -1) for column in (0, -1)) > 20
        alike = [np.corrcoef(copy.ravel(), one.ravel())[0, 1] for one in (image, image[:, ::-1])]
        assert max(alike) > 0.7
    again = change_image(image, np.random.default_rng(0))
    assert (again == copies[0]).all()


def images_on_both_sides(split: ImageSplits) -> set[Path]:
    train = {record.path for record in split.train.records}
    return train & {record.path for record in split.test.records}


def covid_images(images: ImageSet) -> int:
    return int((images.labels == LABELS.index("covid")).sum())


def test_report_split_puts_copies_of_a_image_on_both_sides(reported: ImageSet) -> None:
    condition = split_as_reported(reported, TINY)
    assert (
        sum(map(covid_images, (condition.train, condition.validation, condition.test)))
        == TINY.covid_images
    )
    assert images_on_both_sides(condition)
    counts = Counter(str(record.path) for record in condition.train.records)
    assert max(counts.values()) <= 3  # 120 of 40 images: every image and two copies


def test_split_by_patient_copies_training_images_alone(reported: ImageSet) -> None:
    condition = split_by_patient(reported, TINY)
    train = {record.patient for record in condition.train.records}
    for part in (condition.validation, condition.test):
        assert not train & {record.patient for record in part.records}
        assert len(part) == len({record.path for record in part.records})
    originals = sum(record.label == "covid" for record in set(condition.train.records))
    assert covid_images(condition.train) == 3 * originals


@pytest.fixture
def result(records: list[ImageRecord], tmp_path: Path) -> Path:
    reproduce(records, tmp_path, TINY, device=CPU)
    return tmp_path


def test_reproduction_stands_beside_the_report(
    result: Path, records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = json.loads((result / "reproduction.json").read_text())
    for name, unseen in (("as-reported", 12), ("by-patient", 12)):
        metrics = found["conditions"][name]["metrics"]
        assert list(metrics) == list(TEST_SETS)
        assert metrics["unseen"]["images"] == unseen
        assert metrics["collection"]["per_class"]["pneumonia"]["support"] == 6
        assert len(found["conditions"][name]["epochs"]) == 1
    text = (result / "reproduction.md").read_text()
    assert "| the report | own test images | 3000 |  | 0.98 | 1.00 | 0.97 | 1.00 |" in text
    for name, meaning in (*CONDITIONS.values(), *TEST_SETS.values()):
        assert f"| {name} |" in text
        assert f"- {name}: {meaning}" in text

    # A finished condition is not trained again, one that is missing is.
    trained = []
    fit = reproduction._fit
    monkeypatch.setattr(
        reproduction, "_fit", lambda *a, title, **k: trained.append(title) or fit(*a, title=title)
    )
    (result / "by-patient.json").unlink()
    again = reproduce(records, result, TINY, device=CPU)
    assert trained == ["by-patient"]
    assert again.as_json() == found
    with pytest.raises(CheckpointError, match="other options"):
        reproduce(records, result, replace(TINY, epochs=2), device=CPU)


def test_data_without_the_report_images_is_refused(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    without = [record for record in records if record.source != "kermany"]
    with pytest.raises(DataError, match="cohen and kermany"):
        reproduce(without, tmp_path, TINY, device=CPU)
