"""A bundle's card as a document for people (Mitchell et al., "Model Cards for Model Reporting")."""

from collections.abc import Iterable
from typing import Any

from ml.classifier.bundle import Card
from ml.labels import label_name
from ml.reporting.format import images_by_source, interval, markdown_table, three


def render_model_card(card: Card) -> str:
    """The card as Markdown; every number in it stands in card.json."""
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


def _technical(card: Card) -> str:
    rows = [
        ("network", f"{card.network}, {card.parameters:,} parameters"),
        ("input", f"{card.input_size} x {card.input_size}; {card.preprocessing}"),
        ("temperature", f"{card.temperature:.3f}"),
        (
            'says "uncertain"',
            f"below a confidence of {card.thresholds.confidence:.3f} (chosen on validation for an "
            f"accuracy of {card.thresholds.target_accuracy:.2f} among the answers given), or above "
            f"an out-of-distribution score of {card.thresholds.ood_score:.2f}",
        ),
        ("SHA-256 of the graph", f"`{card.sha256}`"),
        ("made", f"{card.created_at}, code {card.code_version}"),
    ]
    if start := card.data.get("started_from"):
        rows.append(("started from", f"the weights with SHA-256 `{start}`"))
    return "## Model\n\n" + markdown_table(("", ""), rows)


def _metrics(metrics: dict[str, Any]) -> str:
    selective = metrics["selective"]
    rows = [
        ("accuracy", *interval(metrics["accuracy"])),
        ("macro AUROC", *interval(metrics["macro_auroc"])),
        ("expected calibration error", three(metrics["calibration_error"]), ""),
        ("share of images answered", three(selective["coverage"]), ""),
        ("accuracy of those", three(selective["accuracy_when_answering"]), ""),
        ("accuracy of the others, had they been answered",
         three(selective["accuracy_when_uncertain"]), ""),
    ]  # fmt: skip
    text = (
        f"## Metrics\n\nOn {metrics['images']} images of {metrics['patients']} patients in no "
        "training or validation set; intervals are 95 % bootstrap over patients. Sources are "
        "mixed as they are in the data, so knowledge of the source helps: see below for what "
        "remains within one source.\n\n"
    )
    return text + markdown_table(("metric", "value", "95 % interval"), rows)


def _per_class(metrics: dict[str, Any]) -> str:
    rows = [
        (label_name(label), *(three(one[key]) for key in ("precision", "recall", "f1")),
         f"{one['support']:.0f}")
        for label, one in metrics["per_class"].items()
    ]  # fmt: skip
    return markdown_table(("class", "precision", "recall (sensitivity)", "F1", "images"), rows)


def _within_source(metrics: dict[str, Any]) -> str:
    rows = [
        (row["source"], f"{label_name(row['positive'])} against {label_name(row['negative'])}",
         *interval(row["auroc"]), row["auroc"]["n"])
        for row in metrics["within_source"]
    ]  # fmt: skip
    text = (
        "## Within one source\n\nHere the name of the source tells nothing; within radiography the "
        "hospital still does (see Limitations). An interval "
        "without width means that no draw met an error, not that there are none.\n\n"
    )
    return text + markdown_table(("source", "question", "AUROC", "95 % interval", "images"), rows)


def _confusion(card: Card) -> str:
    names = [label_name(label) for label in card.labels]
    rows = [
        (f"**{name}**", *row) for name, row in zip(names, card.metrics["confusion"], strict=True)
    ]
    return "## Confusion\n\nRows: what the image shows. Columns: the most probable class.\n\n" + (
        markdown_table(("", *names), rows)
    )


def _data(card: Card) -> str:
    rows = [
        (source, *(counts[label] for label in card.labels))
        for source, counts in images_by_source(card.data).items()
    ]
    counts = ", ".join(
        f"{name} {count} images of {card.data['patients'][name]} patients"
        for name, count in card.data["images"].items()
    )
    head = ("source", *(label_name(label) for label in card.labels))
    text = f"## Data\n\nSplit {card.data['split']}: {counts}.\n\n" + markdown_table(head, rows)
    synthetic = card.data.get("synthetic")  # cards before synthetic images could train lack it
    if not synthetic:
        return text
    head = ("generator", *head[1:])
    rows = [
        (f"`{generator[:12]}`", *(counts[label] for label in card.labels))
        for generator, counts in synthetic.items()
    ]
    share = card.options["synthetic_share"]
    return f"{text}\n\n" + (
        f"Trained with synthetic images too, a share of {share:.2f} of what was drawn of a class "
        "that has them; in no other split.\n\n" + markdown_table(head, rows)
    )
