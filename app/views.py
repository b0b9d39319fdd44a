"""What the pages show of a row: names, numbers as text, links."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from app.models import Review, Screening
from ml.figures import films_by_source, interval, three
from ml.labels import label_name
from ml.predictor import UNCERTAIN, Reason

REASONS: dict[str, str] = {
    Reason.LOW_CONFIDENCE: (
        "No answer is probable enough: below this confidence the model was wrong too often on "
        "films it had not seen."
    ),
    Reason.UNFAMILIAR_FILM: (
        "This film is unlike the films the model learned from, so its answer cannot be relied on."
    ),
}


# Names of the technical data that is shown; bits and colour mode stand beside the format.
METADATA_NAMES: dict[str, str] = {
    "Modality": "Modality",
    "BodyPartExamined": "Body part",
    "ViewPosition": "View",
    "PatientSex": "Sex",
    "PatientAge": "Age",
    "PixelSpacing": "Pixel spacing, mm",
    "ImagerPixelSpacing": "Pixel spacing at the detector, mm",
    "PhotometricInterpretation": "Grey scale",
}

TIMING_NAMES: dict[str, str] = {
    "wait": "waiting for the model",
    "decode": "reading the film",
    "predict": "answering",
    "store": "storing the film",
}


def decision_name(decision: str) -> str:
    """The words for a decision."""
    return "Uncertain" if decision == UNCERTAIN else label_name(decision)


def percent(value: float) -> str:
    """0.931 -> "93.1 %"."""
    return f"{value * 100:.1f} %"


@dataclass(frozen=True, slots=True)
class Probability:
    """One bar."""

    label: str
    name: str
    value: float
    percent: str


@dataclass(frozen=True, slots=True)
class Heatmap:
    """One layer over the film."""

    label: str
    name: str
    url: str


@dataclass(frozen=True, slots=True)
class ScreeningSummary:
    """A screening in a list."""

    id: str
    url: str
    created_at: datetime
    decision: str
    decision_name: str
    confidence_percent: str
    thumbnail_url: str
    model_version: str
    reviewed: str | None
    reviewed_name: str | None

    @classmethod
    def of(cls, row: Screening, reviewed: str | None = None) -> Self:
        """Summarise a row, and what its review says."""
        url = f"/screenings/{row.id}"
        return cls(
            id=str(row.id),
            url=url,
            created_at=row.created_at,
            decision=row.decision,
            decision_name=decision_name(row.decision),
            confidence_percent=percent(max(row.probabilities.values())),
            thumbnail_url=f"{url}/thumbnail",
            model_version=row.model_version,
            reviewed=reviewed,
            reviewed_name=label_name(reviewed) if reviewed else None,
        )


@dataclass(frozen=True, slots=True)
class ReviewView:
    """What somebody who knows better said of a screening."""

    at: datetime
    by: str
    label: str
    label_name: str
    confirms: bool
    why: str
    knows_patient: bool

    @classmethod
    def of(cls, row: Review, answered: str) -> Self:
        """Show a row beside the label that the model gave."""
        return cls(
            at=row.created_at,
            by=row.by,
            label=row.label,
            label_name=label_name(row.label),
            confirms=row.label == answered,
            why=row.why,
            knows_patient=row.patient_key is not None,
        )


@dataclass(frozen=True, slots=True)
class ScreeningView:
    """A screening on its own page."""

    id: str
    created_at: datetime
    decision: str
    decision_name: str
    decision_reason: str | None
    label: str
    label_name: str
    probabilities: list[Probability]
    film_url: str
    film_width: int
    film_height: int
    heatmaps: list[Heatmap]
    film_format: str
    metadata: list[tuple[str, str]]
    film_sha256: str
    model_version: str
    model_sha256: str
    timings: list[tuple[str, float]]
    processed_ms: float

    @classmethod
    def of(cls, row: Screening, *, share_token: str | None = None) -> Self:
        """Show a row; a visitor who came by a shared link gets its pictures by it too."""
        url, query = f"/screenings/{row.id}", f"?share={share_token}" if share_token else ""
        shown_first = sorted(row.probabilities, key=lambda label: label != row.label)
        return cls(
            id=str(row.id),
            created_at=row.created_at,
            decision=row.decision,
            decision_name=decision_name(row.decision),
            decision_reason=REASONS.get(row.reason or ""),
            label=row.label,
            label_name=label_name(row.label),
            probabilities=[
                Probability(label, label_name(label), value, percent(value))
                for label, value in row.probabilities.items()
            ],
            film_url=f"{url}/film{query}",
            film_width=row.film_width,
            film_height=row.film_height,
            heatmaps=[
                Heatmap(label, label_name(label), f"{url}/heatmaps/{label}.png{query}")
                for label in shown_first
            ],
            film_format=f"{row.film_format}, {row.film_bits} bit",
            metadata=[
                (name, row.film_metadata[key])
                for key, name in METADATA_NAMES.items()
                if key in row.film_metadata
            ],
            film_sha256=row.film_sha256,
            model_version=row.model_version,
            model_sha256=row.model_sha256,
            timings=[(TIMING_NAMES.get(key, key), spent) for key, spent in row.timings.items()],
            processed_ms=sum(row.timings.values()),
        )


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
    figures: list[dict[str, Any]]
    per_class: list[dict[str, Any]]
    within_source: list[dict[str, Any]]
    confusion: dict[str, Any] | None
    reliability: list[dict[str, float]]
    synthetic: list[dict[str, Any]]
    standing: str

    @classmethod
    def of_card(cls, card: dict[str, Any], *, standing: str) -> Self:
        """Show a card; `standing` says whether the model is in use."""
        figures, data = card["figures"], card["data"]
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
            splits=data["films"],
            figures=_headline(figures),
            per_class=[
                {
                    "name": label_name(label),
                    "support": int(own["support"]),
                    **{key: three(own[key]) for key in ("precision", "recall", "f1")},
                }
                for label, own in figures["per_class"].items()
            ],
            within_source=[_within(row) for row in figures["within_source"]],
            confusion={"labels": names, "rows": figures["confusion"]},
            reliability=figures["reliability"],
            synthetic=[
                {"generator": generator, "films": sum(counts.values())}
                # Cards from before synthetic films could train lack it.
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
        for name, counts in films_by_source(data).items()
    ]


def _headline(figures: dict[str, Any]) -> list[dict[str, Any]]:
    selective = figures["selective"]
    return [
        {
            "name": "Accuracy",
            **_value(figures["accuracy"]),
            "note": "of the most probable class, on patients not seen in training",
        },
        {
            "name": "Macro AUROC",
            **_value(figures["macro_auroc"]),
            "note": "mean of each class against the others, all sources mixed",
        },
        {
            "name": "Calibration error",
            "value": three(figures["calibration_error"]),
            "interval": None,
            "note": "mean gap between stated confidence and accuracy",
        },
        {
            "name": "Answers given",
            "value": percent(selective["coverage"]),
            "interval": None,
            "note": "of the films; the others are called uncertain",
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


def _value(figure: dict[str, Any]) -> dict[str, str]:
    value, bounds = interval(figure)
    return {"value": value, "interval": bounds}
