"""The evaluation of a classifier as `metrics.json` and as one self-contained HTML file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from markupsafe import Markup

from ml.classifier.card import ModelCard
from ml.data.manifest import ImageRecord
from ml.errors import CheckpointError
from ml.evaluation.evaluate import Predictions, count_images, roc_curves
from ml.evaluation.metrics import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED
from ml.evaluation.results import ClassifierEvaluation, EvaluatedModel, EvaluationMetrics
from ml.files import write_whole
from ml.labels import label_name
from ml.options.classifier import ClassifierOptions
from ml.reporting.charts import Point, confusion_chart, line_chart, reliability_chart, roc_chart
from ml.reporting.page import render_page, with_interval

METRICS = "metrics.json"
REPORT = "report.html"
TEMPLATE = "classifier.html"
_TRAINING_CHARTS = (
    ("accuracy", "Accuracy over the epochs", "Accuracy over the epochs (figure 4.5 of the report)"),
    ("loss", "Loss over the epochs", "Loss over the epochs, in nats (figure 4.6 of the report)"),
)
_TRAINING_COLUMNS = {
    "train_accuracy": "training accuracy",
    "validation_accuracy": "validation accuracy",
    "train_loss": "training loss",
    "validation_loss": "validation loss",
}


def write_classifier_evaluation(out: Path, evaluation: ClassifierEvaluation) -> None:
    """Write `metrics.json` and `report.html`; the folder is made where it is missing."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / METRICS, evaluation.to_json())
    write_whole(out / REPORT, render_report(evaluation))


def describe(
    card: ModelCard,
    images: Sequence[ImageRecord],
    predictions: Predictions,
    metrics: EvaluationMetrics,
    rows: Sequence[Mapping[str, float]],
    *,
    leave_out: str = "",
) -> ClassifierEvaluation:
    """Collect the results of an evaluation.

    Args:
        card: of the classifier.
        images: the images that were measured.
        predictions: of the classifier, for these images.
        metrics: of these predictions.
        rows: the log of a training run; may be empty.
        leave_out: the source that was left out of training, where the images are from it.
    """
    protocol = (
        f"All images of the source {leave_out}, which is in neither training nor validation."
        if leave_out
        else "The test split: patients in neither training nor validation."
    )
    return ClassifierEvaluation(
        model=EvaluatedModel(
            version=card.version, sha256=card.sha256, network=card.network, options=card.options
        ),
        protocol=protocol,
        seed=BOOTSTRAP_SEED,
        draws=BOOTSTRAP_DRAWS,
        data=count_images(images, card.labels),
        metrics=metrics,
        roc=roc_curves(predictions),
        training=[dict(row) for row in rows],
    )


def read_training_rows(run: Path, card: ModelCard) -> list[dict[str, float]]:
    """Read the log of the training run of a classifier, one row for each epoch.

    Raises:
        CheckpointError: the folder holds no training run, or one with other options than the
            card's, which trained another network.
    """
    log, options = run / "metrics.jsonl", run / "options.json"
    if not (log.is_file() and options.is_file()):
        raise CheckpointError(
            f"{run} holds no training run. Give the --out folder of xray train classifier."
        )
    written = json.loads(options.read_text(encoding="utf-8")).get("options")
    if written is None:
        raise CheckpointError(
            f"{options} is of another version of xray train classifier. Train again."
        )
    # An option that is newer than the run had its default then, as in the card.
    theirs, ours = asdict(ClassifierOptions()) | written, asdict(card.options)
    if theirs != ours:
        changed = ", ".join(name for name in ours if theirs.get(name) != ours[name])
        raise CheckpointError(
            f"{run} did not train classifier {card.version}: they differ in {changed}. Give the "
            "folder of its run."
        )
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def render_report(evaluation: ClassifierEvaluation) -> str:
    """Render the report as HTML."""
    metrics, rows = evaluation.metrics, evaluation.training
    names = [label_name(label) for label in metrics.per_class]
    return render_page(
        TEMPLATE,
        evaluation=evaluation,
        metrics=metrics,
        options=asdict(evaluation.model.options),
        names=names,
        confusion_svg=Markup(  # noqa: S704 the charts escape every text given to them
            confusion_chart(metrics.confusion, names, title="Confusion matrix")
        ),
        roc_svg=Markup(_roc(evaluation)),  # noqa: S704 as above
        reliability_svg=Markup(  # noqa: S704 as above
            reliability_chart(
                metrics.reliability,
                title="Calibration: predicted probability against share correct",
            )
        ),
        training_svgs=[
            (caption, Markup(_curves(rows, kind, title)))  # noqa: S704 as above
            for kind, title, caption in _TRAINING_CHARTS
            if rows
        ],
        training_columns=[key for key in _TRAINING_COLUMNS if any(key in row for row in rows)],
        columns=_TRAINING_COLUMNS,
    )


def _curves(rows: Sequence[Mapping[str, float]], kind: str, title: str) -> str:
    """Training and validation over the epochs; an old run may lack its training accuracy."""
    series: dict[str, list[Point]] = {
        part: [(row["epoch"], row[f"{key}_{kind}"]) for row in rows if f"{key}_{kind}" in row]
        for part, key in (("validation", "validation"), ("training", "train"))
    }
    drawn = {part: points for part, points in series.items() if points}
    return line_chart(drawn, title=title, x_label="epoch", y_label=kind)


def _roc(evaluation: ClassifierEvaluation) -> str:
    if not evaluation.roc:
        return ""
    classes = evaluation.metrics.per_class
    named = {
        f"{label_name(label)}, AUROC {with_interval(classes[label].auroc_interval)}": curve
        for label, curve in evaluation.roc.items()
    }
    return roc_chart(named, title="ROC curves, each class against the others")
