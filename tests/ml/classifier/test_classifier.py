"""Training, export and prediction in a tiny world: 40 x 40 images, a network of two layers."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ml.classifier.bundle import CARD, GRAPH, read_bundle
from ml.classifier.card import ModelCard
from ml.classifier.export import TOLERANCE, export_bundle
from ml.classifier.extract_weights import export_weights
from ml.classifier.networks import build_classifier
from ml.classifier.predictor import Predictor, Reason
from ml.classifier.sampling import sampling_weights
from ml.classifier.trained_run import load_run
from ml.classifier.training import (
    BEST,
    CHECKPOINT,
    ClassifierOptions,
    infer,
    to_unit,
    train_classifier,
)
from ml.classifier.weights import load_weights, save_weights
from ml.data.loading import ImageSplits, load_images
from ml.data.manifest import ImageRecord, in_split
from ml.data.splits import Split
from ml.errors import BundleError, CheckpointError, DataError, XrayError
from ml.evaluation.metrics import softmax
from ml.labels import LABELS
from ml.options.common import FINISH_EARLY
from tests.ml.training.test_metrics_log import points
from tests.support.classifier_world import tiny_network_of
from tests.support.images import png, synthetic_image

CPU = torch.device("cpu")
SIDE, SMALL_SIDE = 40, 32


@pytest.fixture(scope="module", autouse=True)
def tiny_network() -> Iterator[None]:
    with tiny_network_of(SIDE):
        yield


def options(epochs: int = 3, seed: int = 2, **changes: object) -> ClassifierOptions:
    return ClassifierOptions(
        network="report-cnn",
        epochs=epochs,
        small_epochs=1,
        small_size=SMALL_SIDE,
        batch_size=16,
        learning_rate=2e-2,
        ema_decay=0.8,
        seed=seed,
        **changes,
    )


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    """Images of three brightnesses of lung, one for each label, of 150 patients."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    found = []
    for number in range(150):
        label = number % 3
        image = synthetic_image(random, 80, 72).astype(int)
        image[30:60, 20:52] += 45 * label
        path = folder / f"{number}.png"
        path.write_bytes(png(np.clip(image, 0, 255).astype(np.uint8)))
        source = f"source-{number % 2}"
        found.append(ImageRecord(path, LABELS[label], source, f"patient-{number}"))
    return found


@pytest.fixture(scope="module")
def run_folder(records: list[ImageRecord], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    train_classifier(records, out, options(), device=CPU)
    return out


@pytest.fixture(scope="module")
def splits(records: list[ImageRecord]) -> ImageSplits:
    return ImageSplits(*(load_images(in_split(records, part), SIDE, title="") for part in Split))


@pytest.fixture(scope="module")
def bundle(run_folder: Path, splits: ImageSplits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = load_run(run_folder)
    out = tmp_path_factory.mktemp("bundle")
    export_bundle(run, splits, out, version="tiny-1")
    return out


def test_resumed_run_equals_uninterrupted_run(
    records: list[ImageRecord], run_folder: Path, tmp_path: Path
) -> None:
    batches = 0

    def stop_in_the_second_epoch() -> bool:
        nonlocal batches
        batches += 1
        return batches > 10

    out = tmp_path / "run"
    train_classifier(records, out, options(), device=CPU, should_stop=stop_in_the_second_epoch)
    assert len((out / "metrics.jsonl").read_text().splitlines()) < 3
    resumed = train_classifier(records, out, options(), device=CPU).state_dict()
    uninterrupted = load_run(run_folder)[0].state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in uninterrupted.items())
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3
    assert [epoch for epoch, _ in points(out, "validation_loss")] == [1, 2, 3]


def test_training_that_is_asked_to_finish_early_keeps_its_best_epoch(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    rows: list[dict[str, float]] = []
    # Not before the first whole epoch: there would be nothing to keep.
    (tmp_path / FINISH_EARLY).touch()
    train_classifier(records, tmp_path, options(epochs=3), device=CPU, on_tick=rows.append)
    assert [row["epoch"] for row in rows] == [1]


def test_finished_run_is_not_trained_again(records: list[ImageRecord], run_folder: Path) -> None:
    before = (run_folder / "metrics.jsonl").read_text()
    train_classifier(records, run_folder, options(), device=CPU)
    assert (run_folder / "metrics.jsonl").read_text() == before


def test_folder_of_another_run_is_refused(records: list[ImageRecord], run_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="seed"):
        train_classifier(records, run_folder, options(seed=1), device=CPU)


def test_damaged_checkpoint_is_named(records: list[ImageRecord], tmp_path: Path) -> None:
    train_classifier(records, tmp_path, options(epochs=1), device=CPU)
    (tmp_path / CHECKPOINT).write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        train_classifier(records, tmp_path, options(epochs=1), device=CPU)


def test_full_disk_keeps_the_last_good_checkpoint(
    records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_classifier(records, tmp_path, options(epochs=1), device=CPU)
    good = (tmp_path / CHECKPOINT).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ml.files.os.fsync", full)
    (tmp_path / "options.json").unlink()
    with pytest.raises(OSError, match="No space"):
        train_classifier(records, tmp_path, options(epochs=2), device=CPU)
    assert (tmp_path / CHECKPOINT).read_bytes() == good
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_split_without_a_class_is_refused_before_training(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    without = [
        record for record in records if (record.label, record.split) != ("normal", Split.VALIDATION)
    ]
    with pytest.raises(DataError, match="validation split has no image of normal"):
        train_classifier(without, tmp_path, options(), device=CPU)
    covid = [record for record in records if record.label == "covid"]
    with pytest.raises(DataError, match="needs at least two classes"):
        train_classifier(covid, tmp_path, options(), device=CPU)
    assert not list(tmp_path.iterdir())


def test_unreadable_images_are_all_named(records: list[ImageRecord], tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(b"nonsense")
    bad = [ImageRecord(tmp_path / name, "covid", "s", name) for name in ("one.png", "two.png")]
    with pytest.raises(DataError) as refused:
        load_images([*records[:3], *bad], SIDE, title="")
    assert "one.png" in str(refused.value)
    assert "two.png" in str(refused.value)


def test_sampling_draws_every_class_equally_and_softens_sources() -> None:
    def images(label: str, source: str, count: int) -> list[ImageRecord]:
        return [ImageRecord(Path(), label, source, "p")] * count

    records = images("covid", "a", 90) + images("covid", "b", 10) + images("normal", "a", 400)
    weights = sampling_weights(records)
    assert weights[:100].sum() == pytest.approx(0.5)
    assert weights[90:100].sum() / weights[:90].sum() == pytest.approx(1 / 3)


def test_logit_is_the_mean_of_its_activation_map_plus_bias() -> None:
    network = build_classifier("report-cnn", 3).eval()
    images = torch.rand(2, 1, SIDE, SIDE)
    with torch.inference_mode():
        readout = network.read(images)
        expected = readout.activation_map.mean(dim=(2, 3)) + network.head.bias
        assert torch.allclose(readout.logits, expected, atol=1e-5)
        assert torch.allclose(readout.logits, network(images), atol=1e-6)


def test_unknown_network_is_named() -> None:
    with pytest.raises(XrayError, match="efficientnet-lite0"):
        build_classifier("resnet-9000", 3)


def test_imagenet_start_is_a_trained_network() -> None:
    """The packaged weights land where they belong: features of images differ from random ones."""
    network = build_classifier("efficientnet-lite0", 3, pretrained=True).eval()
    images = to_unit(
        np.stack([synthetic_image(np.random.default_rng(k), 224, 224) for k in range(2)]), CPU
    )
    with torch.inference_mode():
        maps = network.read(images).activation_map
    assert maps.shape == (2, 3, 7, 7)
    first = next(network.backbone.parameters())
    # A first layer summed over colours of trained edge filters is far from its initialisation.
    assert float(first.detach().abs().max()) > 1


def test_bundle_computes_what_torch_computes(
    bundle: Path, run_folder: Path, splits: ImageSplits
) -> None:
    network = load_run(run_folder).network
    predictor = Predictor.load(bundle)
    images = splits.test.images
    answers = predictor.predict_batch(images)
    with torch.inference_mode():
        readout = network.read(to_unit(images, CPU))
    expected = softmax(readout.logits.numpy(), predictor.card.temperature)
    given = np.array([list(answer.probabilities.values()) for answer in answers])
    assert np.abs(given - expected).max() < TOLERANCE
    assert all(np.isfinite(answer.ood_score) for answer in answers)
    for name in ("embedding", "activation_map"):
        ours = np.stack([getattr(answer, name) for answer in answers])
        assert np.abs(ours - getattr(readout, name).numpy()).max() < TOLERANCE
    one_by_one = [predictor.predict(image).probabilities for image in images[:3]]
    assert [list(one.values()) for one in one_by_one] == [
        pytest.approx(list(row), abs=1e-5) for row in given[:3]
    ]


def test_weights_in_the_graph_are_those_of_the_run(
    bundle: Path, run_folder: Path, records: list[ImageRecord], tmp_path: Path
) -> None:
    """A run continues from a bundle alone: its weights are read back and begin the next one."""
    file = tmp_path / "weights.safetensors"
    sha256 = export_weights(bundle, file)
    trained = load_run(run_folder).network.state_dict()
    weights = load_weights(file, "report-cnn", LABELS)
    assert weights.sha256 == sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights.state.keys() == trained.keys()
    for name, value in trained.items():
        assert torch.equal(weights.state[name], value) or name.endswith("num_batches_tracked")

    out = tmp_path / "run"
    still = options(epochs=1, label_smoothing=0.0)
    still = replace(still, learning_rate=0.0, ema_decay=0.0)
    after = train_classifier(records, out, still, device=CPU, start_from=file).state_dict()
    parameters = [name for name, _ in load_run(out).network.named_parameters()]
    assert all(torch.equal(after[name], trained[name]) for name in parameters)
    assert load_run(out).started_from == sha256
    with pytest.raises(CheckpointError, match="started_from"):
        train_classifier(records, out, still, device=CPU)


def test_weights_that_do_not_fit_are_refused(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    export_weights(bundle, file)
    with pytest.raises(CheckpointError, match="for the network report-cnn, not efficientnet-lite0"):
        load_weights(file, "efficientnet-lite0", LABELS)
    save_weights(file, {"a": torch.zeros(1)}, {"network": "report-cnn", "labels": "covid,normal"})
    with pytest.raises(CheckpointError, match="for the labels covid,normal"):
        load_weights(file, "report-cnn", LABELS)
    file.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="was not written by xray export weights"):
        load_weights(file, "report-cnn", LABELS)
    with pytest.raises(CheckpointError, match="no weights at"):
        load_weights(tmp_path / "other", "report-cnn", LABELS)


def test_graph_without_all_weights_is_refused(bundle: Path, tmp_path: Path) -> None:
    """Such as one whose batch norms were folded into its convolutions."""
    card, content = read_bundle(bundle)
    graph = onnx.load_model_from_string(content)
    norm = next(one for one in graph.graph.initializer if one.name.endswith("running_var"))
    for node in graph.graph.node:
        node.input[:] = ["folded" if name == norm.name else name for name in node.input]
    norm.name = "folded"
    content = graph.SerializeToString()
    (tmp_path / GRAPH).write_bytes(content)
    card = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    (tmp_path / CARD).write_text(card.to_json())
    with pytest.raises(BundleError, match=r"1 of the weights, such as backbone.1.running_var"):
        export_weights(tmp_path, tmp_path / "weights.safetensors")
    assert not (tmp_path / "weights.safetensors").exists()


def test_card_tells_what_was_measured_and_on_what(bundle: Path, splits: ImageSplits) -> None:
    card = ModelCard.from_json((bundle / CARD).read_text())
    assert card.sha256 == hashlib.sha256((bundle / GRAPH).read_bytes()).hexdigest()
    assert card.metrics.images == len(splits.test) == card.data.images["test"]
    confusion = np.array(card.metrics.confusion)
    assert confusion.sum() == len(splits.test)
    assert card.metrics.accuracy.value == pytest.approx(confusion.trace() / confusion.sum())
    assert card.labels == list(LABELS)
    # The tiny world can be learned.
    assert card.metrics.macro_auroc.value > 0.7


def test_changed_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / CARD).write_bytes((bundle / CARD).read_bytes())
    with pytest.raises(BundleError, match=f"no {GRAPH}"):
        read_bundle(tmp_path)
    graph = bytearray((bundle / GRAPH).read_bytes())
    graph[len(graph) // 2] ^= 1
    (tmp_path / GRAPH).write_bytes(graph)
    with pytest.raises(BundleError, match="SHA-256"):
        read_bundle(tmp_path)
    (tmp_path / CARD).write_text('{"format": 99}')
    with pytest.raises(BundleError, match="format is 99"):
        read_bundle(tmp_path)


@pytest.fixture
def with_thresholds(bundle: Path) -> Callable[[float, float], Predictor]:
    """The bundle with other thresholds."""
    card, graph = read_bundle(bundle)

    def make(confidence: float, ood_score: float) -> Predictor:
        changes = {"confidence": confidence, "ood_score": ood_score}
        thresholds = card.thresholds.model_copy(update=changes)
        return Predictor(card.model_copy(update={"thresholds": thresholds}), graph)

    return make


def test_decision_says_when_it_does_not_know(
    with_thresholds: Callable[[float, float], Predictor], splits: ImageSplits
) -> None:
    image = splits.test.images[0]
    sure = with_thresholds(0.0, 1e9).predict(image)
    assert (sure.decision, sure.reason) == (sure.label, None)
    unsure = with_thresholds(1.01, 1e9).predict(image)
    assert (unsure.decision, unsure.reason) == ("uncertain", Reason.LOW_CONFIDENCE)
    strange = with_thresholds(0.0, 0.0).predict(image)
    assert (strange.decision, strange.reason) == ("uncertain", Reason.OUT_OF_DISTRIBUTION)
    assert sure.label == unsure.label == strange.label


def test_images_of_another_shape_are_refused(bundle: Path) -> None:
    predictor = Predictor.load(bundle)
    for images in (np.zeros((1, 8, 8), np.uint8), np.zeros((1, SIDE, SIDE), np.float32)):
        with pytest.raises(ValueError, match="standardise"):
            predictor.predict_batch(images)


def test_best_weights_are_those_of_the_lowest_validation_loss(
    run_folder: Path, records: list[ImageRecord], splits: ImageSplits
) -> None:
    import json

    from ml.evaluation.metrics import log_loss

    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    network = load_run(run_folder).network
    probabilities = softmax(infer(network, splits.validation.images, CPU))
    loss = log_loss(splits.validation.labels, probabilities)
    assert loss == pytest.approx(min(row["validation_loss"] for row in rows), rel=1e-5)
    assert (run_folder / BEST).exists()
