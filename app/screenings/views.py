"""What the pages show of a row: names, numbers as text, links."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from app.core.errors import NotFound
from app.core.language import percent_text
from app.screenings.metadata_names import METADATA_NAMES
from app.screenings.samples import NOTICE, is_of_a_sample
from app.screenings.tables import Review, Screening
from app.screenings.thresholds import why_uncertain
from ml.classifier.card import Thresholds
from ml.classifier.predictor import Reason, decision_name
from ml.imaging.heatmap import LEAST_ON_LUNGS, render_heatmap, unpack_map
from ml.imaging.heatmap_check import MapFault, map_fault
from ml.imaging.image_warnings import read_warnings
from ml.labels import label_name
from ml.texts import msg

REASONS: dict[str, str] = {
    Reason.LOW_CONFIDENCE: (
        msg(
            "No class reaches the required probability, below which predictions on "
            "unseen images were wrong too often."
        )
    ),
    Reason.OUT_OF_DISTRIBUTION: (
        msg(
            "The image is out of distribution: it differs from the training images, so "
            "the prediction would not be reliable."
        )
    ),
}
TRIAL_NOTICE = msg(
    "Do not use this prediction. It was made in trial mode by a classifier that "
    "was trained on demonstration or unchecked images."
)
TIMING_NAMES: dict[str, str] = {
    "wait": msg("loading the model"),
    "decode": msg("processing"),
    "predict": msg("prediction"),
    "store": msg("storing"),
}


def heatmap_of(row: Screening, label: str) -> bytes:
    """Where the model's evidence for a class lies, as a transparent PNG.

    Raises:
        NotFound: the model that made the prediction does not know the class, or its map does not
            lie on the lungs.
    """
    labels = list(row.probabilities)
    if label not in labels:
        raise NotFound(
            msg(
                "There is no class %(label)s. Choose one of %(labels)s.",
                label=f"{label!r:.60}",
                labels=", ".join(labels),
            )
        )
    if fault := why_no_map(row, label):
        raise NotFound(fault)
    return render_heatmap(unpack_map(row.activation_map), labels.index(label))


def why_no_map(row: Screening, label: str) -> str:
    """Why the heat map of a class is not shown, as a sentence; empty where it is."""
    match map_fault(row.heatmap_shares, label):
        case MapFault.NO_LUNGS:
            return msg(
                "There is no heat map, because no lungs were found in the image to check it."
            )
        case MapFault.OUTSIDE_LUNGS:
            share = (row.heatmap_shares or {})[label] or 0.0
            return msg(
                "There is no heat map for %(label)s: %(share)s of its evidence lies on the "
                "lungs, and below %(least_on_lungs)s a map explains nothing.",
                label=label_name(label),
                share=percent_text(share),
                least_on_lungs=percent_text(LEAST_ON_LUNGS),
            )
    return ""


@dataclass(frozen=True, slots=True)
class PixelSpacing:
    """The side of a pixel.

    Attributes:
        mm: in millimetres.
        at_detector: not corrected for the enlargement of what lies before the detector.
    """

    mm: float
    at_detector: bool


def pixel_spacing(metadata: Mapping[str, str]) -> PixelSpacing | None:
    """The pixel spacing in a header; None where there is none, or where pixels are not square.

    The two sides of other pixels could be exchanged, as the image may have been rotated.
    """
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        try:
            rows, columns = (float(part) for part in metadata.get(name, "").split("\\"))
        except ValueError:
            continue
        if rows > 0 and math.isclose(rows, columns, rel_tol=0.01):
            return PixelSpacing(columns, at_detector=name == "ImagerPixelSpacing")
    return None


@dataclass(frozen=True, slots=True)
class Probability:
    """One bar."""

    label: str
    name: str
    value: float
    percent: str


@dataclass(frozen=True, slots=True)
class Heatmap:
    """One layer over the image.

    Attributes:
        url: empty where the map is not shown.
        fault: why it is not.
    """

    label: str
    name: str
    url: str
    fault: str

    @classmethod
    def of(cls, row: Screening, label: str, query: str) -> Self:
        """The map of a class, with the query that opens its address."""
        fault = why_no_map(row, label)
        url = f"/screenings/{row.id}/heatmaps/{label}.png{query}"
        return cls(label, label_name(label), "" if fault else url, fault)


@dataclass(frozen=True, slots=True)
class ScreeningSummary:
    """A screening in a list.

    Attributes:
        most_likely: the name of the most likely class where the model abstains; else empty.
        uncertain_because: the value and the threshold that it missed; empty if confident.
        is_review_hidden: whether others have reviewed it and the reader has not.
        warnings: of the image, in a few words each.
    """

    id: str
    url: str
    created_at: datetime
    reference: str
    decision: str
    decision_name: str
    most_likely: str
    confidence_percent: str
    uncertain_because: str
    thumbnail_url: str
    model_version: str
    reviewed: str | None
    reviewed_name: str | None
    is_review_hidden: bool
    warnings: list[str]

    @classmethod
    def of(
        cls,
        row: Screening,
        thresholds: Thresholds,
        reviewed: str | None = None,
        *,
        hidden: bool = False,
        query: str = "",
    ) -> Self:
        """Summarise a row, and what its review says unless that is hidden from the reader.

        `query` is the filter of the list, which the page of the screening keeps.
        """
        url = f"/screenings/{row.id}"
        return cls(
            id=str(row.id),
            url=f"{url}?{query}" if query else url,
            created_at=row.created_at,
            reference=row.reference or "",
            decision=row.decision,
            decision_name=decision_name(row.decision),
            most_likely=label_name(row.label) if row.reason else "",
            confidence_percent=percent_text(max(row.probabilities.values())),
            uncertain_because=why_uncertain(row, thresholds),
            thumbnail_url=f"{url}/thumbnail",
            model_version=row.model_version,
            reviewed=None if hidden else reviewed,
            reviewed_name=label_name(reviewed) if reviewed and not hidden else None,
            is_review_hidden=hidden,
            warnings=[warning.name for warning in read_warnings(row.warnings)],
        )


@dataclass(frozen=True, slots=True)
class ReviewView:
    """What somebody who knows better said of a screening."""

    at: datetime
    by: str
    label: str
    label_name: str
    confirms: bool
    finding: str
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
            finding=row.finding,
            why=row.why,
            knows_patient=row.patient_key is not None,
        )


@dataclass(frozen=True, slots=True)
class ScreeningView:
    """A screening on its own page."""

    id: str
    created_at: datetime
    reference: str
    decision: str
    decision_name: str
    decision_reason: str | None
    uncertain_because: str
    trial_notice: str | None
    sample_notice: str | None
    warnings: list[str]
    label: str
    label_name: str
    probabilities: list[Probability]
    image_url: str
    image_width: int
    image_height: int
    heatmaps: list[Heatmap]
    image_format: str
    metadata: list[tuple[str, str]]
    spacing: PixelSpacing | None
    image_sha256: str
    model_version: str
    model_sha256: str
    threshold_version: int | None  # of the clinic's own thresholds
    timings: list[tuple[str, float]]
    processed_ms: float

    @classmethod
    def of(cls, row: Screening, thresholds: Thresholds, *, share_token: str | None = None) -> Self:
        """Show a row; a visitor who came by a shared link gets its pictures by it too."""
        url, query = f"/screenings/{row.id}", f"?share={share_token}" if share_token else ""
        return cls(
            id=str(row.id),
            created_at=row.created_at,
            reference=row.reference or "",
            decision=row.decision,
            decision_name=decision_name(row.decision),
            decision_reason=REASONS.get(row.reason or ""),
            uncertain_because=why_uncertain(row, thresholds),
            trial_notice=TRIAL_NOTICE if row.is_trial else None,
            sample_notice=NOTICE if is_of_a_sample(row.image_sha256) else None,
            warnings=[warning.text for warning in read_warnings(row.warnings)],
            label=row.label,
            label_name=label_name(row.label),
            probabilities=[
                Probability(label, label_name(label), value, percent_text(value))
                for label, value in row.probabilities.items()
            ],
            image_url=f"{url}/image{query}",
            image_width=row.image_width,
            image_height=row.image_height,
            heatmaps=[Heatmap.of(row, label, query) for label in row.probabilities],
            image_format=f"{row.image_format}, {row.image_bits} bit",
            metadata=[
                (name, row.image_metadata[key])
                for key, name in METADATA_NAMES.items()
                if key in row.image_metadata
            ],
            spacing=pixel_spacing(row.image_metadata),
            image_sha256=row.image_sha256,
            model_version=row.model_version,
            model_sha256=row.model_sha256,
            threshold_version=row.clinic_thresholds.version if row.clinic_thresholds else None,
            timings=[(TIMING_NAMES.get(key, key), spent) for key, spent in row.timings.items()],
            processed_ms=sum(row.timings.values()),
        )
