"""What the pages show of generators, of the registry, and of comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from app.registry.tables import ModelVersion
from app.screenings.views import percent
from ml.gan.evaluation.results import GeneratorEvaluation
from ml.gan.generator_card import ReleasedGeneratorCard
from ml.labels import label_name
from ml.reporting.format import images_by_source, interval, three
from ml.reporting.gan_tables import AUROC, Row, pixel_rows, space_rows


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model's card as the model page shows it."""

    version: str
    sha256: str
    created_at: datetime
    network: str
    parameters: int
    input_size: int
    labels: list[str]
    temperature: float
    thresholds: dict[str, float]
    code_version: str
    preprocessing: str
    intended_use: str
    limitations: list[str]
    licence: str
    sources: list[dict[str, Any]]
    splits: dict[str, int]
    metrics: list[dict[str, Any]]
    per_class: list[dict[str, Any]]
    within_source: list[dict[str, Any]]
    confusion: dict[str, Any] | None
    reliability: list[dict[str, float]]
    synthetic: list[dict[str, Any]]
    standing: str

    @classmethod
    def of_card(cls, card: dict[str, Any], *, standing: str) -> Self:
        """Show a card; `standing` says whether the model is in use."""
        metrics, data = card["metrics"], card["data"]
        names = [label_name(label) for label in card["labels"]]
        return cls(
            version=card["version"],
            sha256=card["sha256"],
            created_at=datetime.fromisoformat(card["created_at"]),
            network=card["network"],
            parameters=card["parameters"],
            input_size=card["input_size"],
            labels=names,
            temperature=card["temperature"],
            thresholds=card["thresholds"],
            code_version=card["code_version"],
            preprocessing=card["preprocessing"],
            intended_use=card["intended_use"],
            limitations=card["limitations"],
            licence=card["licence"],
            sources=_sources(data),
            splits=data["images"],
            metrics=_headline(metrics),
            per_class=[
                {
                    "name": label_name(label),
                    "support": int(own["support"]),
                    **{key: three(own[key]) for key in ("precision", "recall", "f1")},
                }
                for label, own in metrics["per_class"].items()
            ],
            within_source=[_within(row) for row in metrics["within_source"]],
            confusion={"labels": names, "rows": metrics["confusion"]},
            reliability=metrics["reliability"],
            synthetic=[
                {"generator": generator, "images": sum(counts.values())}
                # Cards from before synthetic images could train lack it.
                for generator, counts in (data.get("synthetic") or {}).items()
            ],
            standing=standing,
        )


def _sources(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "counts": {label_name(label): count for label, count in counts.items()},
        }
        for name, counts in images_by_source(data).items()
    ]


def _headline(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    selective = metrics["selective"]
    return [
        {
            "name": "Accuracy",
            **_value(metrics["accuracy"]),
            "note": "of the most probable class, on patients not seen in training",
        },
        {
            "name": "Macro AUROC",
            **_value(metrics["macro_auroc"]),
            "note": "mean of each class against the others, all sources mixed",
        },
        {
            "name": "Calibration error",
            "value": three(metrics["calibration_error"]),
            "interval": None,
            "note": "mean gap between stated confidence and accuracy",
        },
        {
            "name": "Answers given",
            "value": percent(selective["coverage"]),
            "interval": None,
            "note": "of the images; the others are called uncertain",
        },
        {
            "name": "Accuracy of answers given",
            "value": three(selective["accuracy_when_answering"]),
            "interval": None,
            "note": "where the model does not say that it is uncertain",
        },
    ]


def _within(row: dict[str, Any]) -> dict[str, Any]:
    positive, negative = (label_name(row[key]) for key in ("positive", "negative"))
    return {
        "name": f"{row['source']}: {positive} against {negative}",
        **_value(row["auroc"]),
        "n": row["auroc"]["n"],
    }


def _value(metric: dict[str, Any]) -> dict[str, str]:
    value, bounds = interval(metric)
    return {"value": value, "interval": bounds}


# Of the many metrics of a generator, those that stand first.
_HEADLINE = ("KID", "FID", "recall", AUROC)


@dataclass(frozen=True, slots=True)
class MetricTable:
    """The metrics of a generator in one place where images are compared."""

    title: str
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class GeneratorView:
    """A generator's card.

    Attributes:
        headline: the first metrics of the first feature space.
        measured_on: on which images; empty where nothing was measured.
    """

    version: str
    sha256: str
    standing: str
    created_at: datetime
    classes: list[str]
    on_demand: bool
    size: int
    game: str
    steps: str
    learned_from: list[tuple[str, int]]
    code_version: str
    licence: str
    notes: list[str]
    headline: list[Row]
    tables: list[MetricTable]
    measured_on: str
    samples_url: str

    @classmethod
    def of(cls, model: ModelVersion) -> Self:
        """Show a row."""
        card = model.generator_card
        options, evaluation = card.options, card.evaluation
        tables = _tables(evaluation) if evaluation else []
        headline = [row for table in tables[:1] for row in table.rows if row.name in _HEADLINE]
        return cls(
            version=model.version,
            sha256=model.sha256,
            standing="An archived generator" if model.archived_at else "A generator",
            created_at=datetime.fromisoformat(card.created_at),
            classes=[label_name(label) for label in card.labels],
            on_demand=options.conditional,
            size=options.size,
            game=f"{options.objective}, {options.network} networks",
            steps=f"{card.step:,} steps, {card.images_seen:,} images shown",
            learned_from=[(label_name(label), count) for label, count in card.images.items()],
            code_version=card.code_version,
            licence=card.licence or "not stated",
            notes=[*card.notes, *(evaluation.notes if evaluation else [])],
            headline=headline,
            tables=tables,
            measured_on=_measured_on(evaluation) if evaluation else "",
            samples_url=f"/gallery/samples/{model.sha256}.png",
        )


def _tables(evaluation: GeneratorEvaluation) -> list[MetricTable]:
    samples, held_out = evaluation.samples.images, evaluation.real.held_out_images
    return [
        *(
            MetricTable(f"Feature space {space.name}", space_rows(space))
            for space in evaluation.spaces
        ),
        MetricTable("Pixel by pixel", pixel_rows(evaluation.pixels, samples, held_out)),
    ]


def _measured_on(evaluation: GeneratorEvaluation) -> str:
    real = evaluation.real
    return (
        f"{evaluation.samples.images:,} synthetic images compared with {real.images:,} test images "
        f"of {real.patients:,} patients. Brackets show 95 % intervals; for FID, the standard error."
    )


def generator_metrics(
    card: ReleasedGeneratorCard, names: Sequence[str] = ("KID", "FID")
) -> list[Row]:
    """Selected metrics of the first feature space; empty for a generator without an evaluation."""
    spaces = card.evaluation.spaces[:1] if card.evaluation else []
    return [row for space in spaces for row in space_rows(space) if row.name in names]
