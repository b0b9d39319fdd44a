"""Export a trained classifier as a bundle: calibrate, convert to ONNX, check, evaluate."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ml.classifier.bundle import GRAPH, read_bundle
from ml.classifier.calibration import (
    FamiliaritySpace,
    SiteRule,
    confidence_threshold,
    fit_familiarity,
    fit_temperature,
)
from ml.classifier.card import CARD_FORMAT, ModelCard, Thresholds, TrainingData
from ml.classifier.card_texts import LICENCE, LUNG_CROP, PREPROCESSING, intended_use, limitations_of
from ml.classifier.exported_graph import ClassifierReader, CropReader, DraftGraph, read_all
from ml.classifier.inputs import InputCache, image_side, load_whole
from ml.classifier.networks import ImageClassifier, Readout
from ml.classifier.predictor import Predictor
from ml.classifier.sampling import require_all_classes
from ml.classifier.trained_run import TrainedRun, load_run
from ml.data.left_out import without_left_out
from ml.data.loading import ImageSplits
from ml.data.manifest import ImageRecord, in_split, labels_of, real_images
from ml.data.splits import Split
from ml.errors import BundleError
from ml.evaluation.evaluate import count_images, evaluate
from ml.evaluation.metrics import softmax
from ml.evaluation.results import EvaluationMetrics
from ml.network_files import write_network
from ml.version import code_version

TOLERANCE = 1e-4
# The crop to the lungs and its stretch pass small differences of the runtimes on enlarged.
CROP_TOLERANCE = 1e-3
TARGET_ACCURACY = 0.95
FAMILIARITY_DIMS = 64
# Share of the validation images that may be called out-of-distribution.
OUT_OF_DISTRIBUTION_SHARE = 0.01


def export_bundle(
    run: TrainedRun,
    splits: ImageSplits,
    out: Path,
    *,
    version: str,
    rule: SiteRule | None = None,
    limitations: Sequence[str] = (),
    cache: InputCache | None = None,
) -> ModelCard:
    """Calibrate on validation, export, check against torch, evaluate on test, write.

    The test metrics are those of the exported graph in ONNX Runtime, which is what is served.

    Args:
        run: the trained classifier and what it was trained with.
        splits: whole images of people only: the out-of-distribution score is relative to them.
        out: the bundle's folder.
        version: the name of the model version.
        rule: thresholds that were fitted on left-out sites, in place of one fitted on validation.
        limitations: sentences that stand first among the card's limitations.
        cache: images that other exports in this process share.

    Raises:
        BundleError: the exported graph does not compute what the network computes.
    """
    network = run.network.cpu().eval()
    draft_graph = DraftGraph(
        network, run.options, len(labels_of(splits.train.records)), FAMILIARITY_DIMS
    )
    # Available crops are not made again by the graph.
    crops = run.options.crop == "lungs"
    reader = CropReader(network, run.options, cache) if crops else draft_graph
    fitted = _calibrate(reader, splits, rule)
    draft = _draft_card(run, splits, version, fitted, limitations)
    graph = draft_graph.complete(fitted.space, draft.decision_rule())
    draft = draft.model_copy(update={"sha256": hashlib.sha256(graph).hexdigest()})
    predictor = Predictor(draft, graph, threads=torch.get_num_threads())
    require_same_predictions(network, predictor, splits.validation.images[:64], fitted.space)
    card = draft.model_copy(update={"metrics": evaluate(predictor, splits.test)})
    write_network(out / GRAPH, graph, card)
    return card


class _Calibration(NamedTuple):
    """What is fitted after training."""

    space: FamiliaritySpace
    temperature: float
    thresholds: Thresholds


def _calibrate(
    reader: DraftGraph | CropReader, splits: ImageSplits, rule: SiteRule | None
) -> _Calibration:
    """Fit the familiarity space on the training split, all else on the validation split."""
    learned = reader.read(splits.train, "reading embeddings of training images")
    classes = len(labels_of(splits.train.records))
    space = fit_familiarity(
        learned.embedding.numpy(), splits.train.labels, classes, FAMILIARITY_DIMS
    )
    held_out = reader.read(splits.validation, "calibrating on validation images")
    labels = splits.validation.labels
    temperature = fit_temperature(held_out.logits.numpy(), labels)
    thresholds = _thresholds(held_out, labels, temperature, space)
    return _Calibration(space, temperature, _with_rule(thresholds, rule))


def _draft_card(
    run: TrainedRun,
    splits: ImageSplits,
    version: str,
    fitted: _Calibration,
    limitations: Sequence[str],
) -> ModelCard:
    """The card without what only the exported graph can tell."""
    labels, options = labels_of(splits.train.records), run.options
    return ModelCard(
        version=version,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        sha256="",
        network=options.network,
        parameters=sum(parameter.numel() for parameter in run.network.parameters()),
        input_size=image_side(options),
        labels=list(labels),
        preprocessing=LUNG_CROP if options.crop == "lungs" else PREPROCESSING,
        temperature=fitted.temperature,
        thresholds=fitted.thresholds,
        code_version=code_version(),
        options=options,
        data=_training_data(splits, labels, run),
        metrics=EvaluationMetrics.unmeasured(),
        intended_use=intended_use(labels),
        limitations=[
            *limitations,
            *limitations_of(
                [*splits.train.records, *splits.validation.records, *splits.test.records]
            ),
        ],
        licence=LICENCE,
        format=CARD_FORMAT,
    )


def export_run(
    records: Sequence[ImageRecord],
    trained: TrainedRun,
    out: Path,
    *,
    version: str,
    rule: SiteRule | None = None,
    limitations: Sequence[str] = (),
    cache: InputCache | None = None,
) -> ModelCard:
    """Read the images that a training run was made from and export it with `export_bundle`.

    Args:
        records: images of the data set after `without_leaks`. Synthetic images and those of the
            left-out source are ignored, because they take no part in calibration.
        trained: from `load_run` or `load_average`.
        out: the bundle's folder.
        version: the name of the model version.
        rule: thresholds that were fitted on left-out sites.
        limitations: sentences that stand first among the card's limitations.
        cache: images that other exports in this process share.

    Raises:
        DataError: images cannot be read, or a split has none, or the classes are not those that the
            run learned.
    """
    options = trained.options
    images = without_left_out(real_images(records), options.leave_out)
    require_all_classes(in_split(images, Split.TRAIN), "training", trained.labels)
    splits = ImageSplits(
        *(
            load_whole(
                in_split(images, part),
                options,
                title=f"reading {part} images",
                classes=trained.labels,
                cache=cache,
            )
            for part in Split
        )
    )
    return export_bundle(
        trained,
        splits,
        out,
        version=version,
        rule=rule,
        limitations=limitations,
        cache=cache,
    )


def is_bundle_of(folder: Path, run: Path, version: str) -> bool:
    """Whether a folder holds the complete bundle of a training run, of this version."""
    try:
        card, _ = read_bundle(folder)
    except BundleError:
        return False
    return card.version == version and card.options == load_run(run).options


def _thresholds(
    readout: Readout, labels: NDArray[np.int64], temperature: float, space: FamiliaritySpace
) -> Thresholds:
    probabilities = softmax(readout.logits.numpy(), temperature)
    ood_score = space.ood_score(readout.embedding.numpy())
    return Thresholds(
        confidence=confidence_threshold(labels, probabilities, TARGET_ACCURACY),
        ood_score=float(np.quantile(ood_score, 1 - OUT_OF_DISTRIBUTION_SHARE)),
        target_accuracy=TARGET_ACCURACY,
    )


def _with_rule(thresholds: Thresholds, rule: SiteRule | None) -> Thresholds:
    if rule is None:
        return thresholds
    return thresholds.model_copy(
        update={"by_label": rule.by_label, "left_out_sites": sorted(rule.answered)}
    )


def require_same_predictions(
    network: ImageClassifier,
    predictor: Predictor,
    images: NDArray[np.uint8],
    space: FamiliaritySpace | None = None,
) -> None:
    """Check that a graph computes what the torch network computes.

    Args:
        network: the classifier, on the CPU and in evaluation mode.
        predictor: the graph.
        images: (N, S, S) to compare on.
        space: of the out-of-distribution score; None skips that output.

    Raises:
        BundleError: names the output that differs by more than `TOLERANCE`, or `CROP_TOLERANCE`
            where the graph crops.
    """
    reader = ClassifierReader(network, predictor.card.options).eval()
    expected = read_all(
        lambda batch: reader.read(batch.float()), images, "comparing the graph with torch, images"
    )
    answers = predictor.predict_batch(images)
    pairs = {
        "probabilities": (
            softmax(expected.logits.numpy(), predictor.card.temperature),
            np.array([list(answer.probabilities.values()) for answer in answers]),
        ),
        "embedding": (
            expected.embedding.numpy(),
            np.stack([answer.embedding for answer in answers]),
        ),
        "activation map": (
            expected.activation_map.numpy(),
            np.stack([answer.activation_map for answer in answers]),
        ),
    }
    if space:
        ood_score = np.array([answer.ood_score for answer in answers])
        pairs["ood_score"] = (space.ood_score(expected.embedding.numpy()), ood_score)
    tolerance = CROP_TOLERANCE if reader.crop else TOLERANCE
    for name, (ours, exported) in pairs.items():
        gap = float(np.abs(ours - exported).max()) / max(1.0, float(np.abs(ours).max()))
        # Written so that a gap of NaN is refused as well.
        if not gap <= tolerance:
            raise BundleError(
                f"The graph's {name} differs from the torch network by {gap:.1e}, more than "
                f"{tolerance:.0e}. The export is not usable."
            )


def _training_data(
    splits: ImageSplits,
    labels: Sequence[str],
    run: TrainedRun,
) -> TrainingData:
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return TrainingData(
        images={name: len(part) for name, part in parts.items()},
        patients={name: len(set(part.patients.tolist())) for name, part in parts.items()},
        by_source={name: count_images(part.records, labels) for name, part in parts.items()},
        split="by patient: hash of the patient key",
        synthetic={generator: dict(counts) for generator, counts in run.synthetic.items()},
        started_from=run.started_from,
        averaged_seeds=list(run.averaged_seeds),
    )
