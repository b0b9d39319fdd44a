"""The card of a classifier as Markdown (Mitchell et al., "Model Cards for Model Reporting")."""

from collections.abc import Iterable

from ml.classifier.card import ModelCard, Thresholds
from ml.evaluation.results import EvaluationMetrics
from ml.labels import label_name
from ml.reporting.format import images_by_source, interval, markdown_table, three


def render_model_card(card: ModelCard) -> str:
    """Render a card as Markdown; every number in it is from card.json."""
    sections = [
        f"# Model card: classifier {card.version}",
        "This page is generated from `card.json` by `xray card`.",
        f"**Intended use.** {card.intended_use}",
        _list("Limitations", card.limitations),
        f"**Licence of the weights.** {card.licence}",
        _technical(card),
        _metrics(card.metrics),
        _per_class(card.metrics),
        _within_source(card.metrics),
        _confusion(card),
        _data(card),
    ]
    return "\n\n".join(sections) + "\n"


def _list(title: str, items: Iterable[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {item}" for item in items)


def _technical(card: ModelCard) -> str:
    thresholds = card.thresholds
    rows = [
        ("network", f"{card.network}, {card.parameters:,} parameters"),
        ("input", f"{card.input_size} x {card.input_size}; {card.preprocessing}"),
        ("temperature", f"{card.temperature:.3f}"),
        (
            "uncertain",
            f"{_confidence_rule(thresholds)}, or above an "
            f"out-of-distribution score of {thresholds.ood_score:.2f}",
        ),
        ("SHA-256 of the graph", f"`{card.sha256}`"),
        ("created", f"{card.created_at}, code {card.code_version}"),
    ]
    if card.data.started_from:
        rows.append(("initial weights", f"SHA-256 `{card.data.started_from}`"))
    if seeds := card.data.averaged_seeds:
        named = ", ".join(map(str, seeds))
        rows.append(("weights", f"average of {len(seeds)} trainings, seeds {named}"))
    return "## Model\n\n" + markdown_table(("", ""), rows)


def _metrics(metrics: EvaluationMetrics) -> str:
    selective = metrics.selective
    rows = [
        ("accuracy", *interval(metrics.accuracy)),
        ("macro AUROC", *interval(metrics.macro_auroc)),
        ("expected calibration error", three(metrics.calibration_error), ""),
        ("coverage (share of confident predictions)", three(selective.coverage), ""),
        ("accuracy of confident predictions", three(selective.accuracy_when_answering), ""),
        ("accuracy of the most likely class of uncertain images",
         three(selective.accuracy_when_uncertain), ""),
    ]  # fmt: skip
    text = (
        f"## Metrics\n\nOn {metrics.images} test images of {metrics.patients} patients, none of "
        "whom is in the training or validation set. Intervals are 95 % bootstrap intervals over "
        "patients. Sources are mixed as in the data set, so recognising the source helps: see the "
        "performance by source below.\n\n"
    )
    return text + markdown_table(("metric", "value", "95 % interval"), rows)


def _per_class(metrics: EvaluationMetrics) -> str:
    rows = [
        (label_name(label), three(one.precision), three(one.recall), three(one.f1), one.support)
        for label, one in metrics.per_class.items()
    ]
    return markdown_table(("class", "precision", "recall (sensitivity)", "F1", "images"), rows)


def _within_source(metrics: EvaluationMetrics) -> str:
    rows = [
        (row.source, f"{label_name(row.positive)} against {label_name(row.negative)}",
         *interval(row.auroc), row.auroc.n)
        for row in metrics.within_source
    ]  # fmt: skip
    text = (
        "## Performance by source\n\nWithin one source, recognising the source does not help; "
        "within radiography, recognising the hospital still does (see Limitations). An interval of "
        "zero width means that no bootstrap sample contained an error, not that there are none."
        "\n\n"
    )
    return text + markdown_table(("source", "classes", "AUROC", "95 % interval", "images"), rows)


def _confusion(card: ModelCard) -> str:
    names = [label_name(label) for label in card.labels]
    rows = [(f"**{name}**", *row) for name, row in zip(names, card.metrics.confusion, strict=True)]
    return "## Confusion matrix\n\nRows: true class. Columns: most likely class.\n\n" + (
        markdown_table(("", *names), rows)
    )


def _data(card: ModelCard) -> str:
    data = card.data
    rows = [
        (source, *(counts[label] for label in card.labels))
        for source, counts in images_by_source(data).items()
    ]
    counts = ", ".join(
        f"{name} {count} images of {data.patients[name]} patients"
        for name, count in data.images.items()
    )
    names = [label_name(label) for label in card.labels]
    text = f"## Training data\n\nSplit {data.split}: {counts}.\n\n" + (
        markdown_table(("source", *names), rows)
    )
    if not data.synthetic:
        return text
    synthetic = [
        (f"`{generator[:12]}`", *(counts[label] for label in card.labels))
        for generator, counts in data.synthetic.items()
    ]
    return (
        f"{text}\n\nSynthetic images, in the training split only. Of the images drawn of a class "
        f"that has them, a share of {card.options.synthetic_share:.2f} is synthetic.\n\n"
    ) + markdown_table(("generator", *names), synthetic)


def _confidence_rule(thresholds: Thresholds) -> str:
    """The thresholds of confidence, and what they were chosen for."""
    if not thresholds.by_label:
        return (
            f"below a confidence of {thresholds.confidence:.3f} (chosen on validation for an "
            f"accuracy of {thresholds.target_accuracy:.2f} of confident predictions)"
        )
    each = ", ".join(
        f"{value:.3f} for {label_name(label)}" if value <= 1 else f"always for {label_name(label)}"
        for label, value in thresholds.by_label.items()
    )
    return (
        f"below a confidence of {each} (chosen for an accuracy of "
        f"{thresholds.target_accuracy:.2f} of confident predictions at every left-out site: "
        f"{', '.join(thresholds.left_out_sites)})"
    )
