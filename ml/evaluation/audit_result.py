"""What an audit of a classifier says: the contract of `audit.json`, and the bounds it is judged by.

The bounds are in the code and not in the file, so no file can loosen them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from ml.errors import BundleError
from ml.evaluation.metrics import Interval
from ml.json_model import InvalidJson, JsonFloat, JsonModel

AUDIT = "audit.json"


class AuditCheck(StrEnum):
    """What an audit does to images, or looks at."""

    WHOLE_IMAGE = "whole-image"
    LUNGS_BLACK = "lungs-blacked-out"
    BORDER_ONLY = "border-only"
    LUNGS_ONLY = "lungs-only"
    MARKERS_REMOVED = "markers-removed"
    MARKERS_PASTED = "markers-pasted"
    MIRRORED = "mirrored"
    SHARPNESS = "sharpness-of-another-site"
    GREY_LEVELS = "grey-levels-of-another-site"
    JPEG = "jpeg-history"
    HEALTHY_BY_SITE = "healthy-by-site"
    HEAT_MAP_LUNGS = "heat-map-on-the-lungs"
    HEAT_MAP_RANDOM = "heat-map-of-random-weights"
    HEAT_MAP_DELETION = "heat-map-deletion"
    HEAT_MAP_INSERTION = "heat-map-insertion"
    SITE_PROBE = "site-from-embedding"
    BY_SITE = "by-site"
    BY_VIEW = "by-view"
    BY_SEX = "by-sex"
    BY_AGE = "by-age"


class AuditMetric(StrEnum):
    """What is measured."""

    AUROC = "AUROC"
    AUROC_LOST = "AUROC lost"
    CHANGED = "decisions changed"
    SWAPPED = "class replaced by another class"
    CALLED_TARGET = "called the target class, not uncertain"
    SENSITIVITY = "sensitivity"
    SPECIFICITY = "specificity"
    BALANCED_ACCURACY = "balanced accuracy"
    ON_LUNGS = "maps with most evidence on the lungs"
    SHARE_ON_LUNGS = "share of the evidence on the lungs"
    CORRELATION = "correlation with the map of random weights"
    ABOVE_CHANCE = "gain over a random order"


@dataclass(frozen=True, slots=True)
class Bound:
    """The value up to which, or from which on, a measurement passes."""

    limit: float
    kind: Literal["most", "least"] = "most"

    def holds(self, value: float) -> bool:
        """Whether a value is within the bound; NaN is not."""
        return value <= self.limit if self.kind == "most" else value >= self.limit

    @property
    def text(self) -> str:
        """The bound in words: at most 0.60."""
        return f"at {self.kind} {self.limit:.2f}"


BOUNDS: dict[tuple[AuditCheck, AuditMetric], Bound] = {
    (AuditCheck.LUNGS_BLACK, AuditMetric.AUROC): Bound(0.60),
    (AuditCheck.BORDER_ONLY, AuditMetric.AUROC): Bound(0.60),
    (AuditCheck.LUNGS_ONLY, AuditMetric.AUROC_LOST): Bound(0.15),
    (AuditCheck.MARKERS_REMOVED, AuditMetric.CHANGED): Bound(0.02),
    (AuditCheck.MARKERS_PASTED, AuditMetric.CHANGED): Bound(0.02),
    (AuditCheck.MIRRORED, AuditMetric.CHANGED): Bound(0.10),
    (AuditCheck.SHARPNESS, AuditMetric.CHANGED): Bound(0.10),
    (AuditCheck.GREY_LEVELS, AuditMetric.CHANGED): Bound(0.10),
    (AuditCheck.JPEG, AuditMetric.CHANGED): Bound(0.05),
    **{
        (check, AuditMetric.SWAPPED): Bound(0.01)
        for check in (
            AuditCheck.MARKERS_REMOVED,
            AuditCheck.MARKERS_PASTED,
            AuditCheck.MIRRORED,
            AuditCheck.SHARPNESS,
            AuditCheck.GREY_LEVELS,
            AuditCheck.JPEG,
        )
    },
    (AuditCheck.HEALTHY_BY_SITE, AuditMetric.CALLED_TARGET): Bound(0.02),
    (AuditCheck.HEAT_MAP_LUNGS, AuditMetric.ON_LUNGS): Bound(0.80, "least"),
    (AuditCheck.HEAT_MAP_RANDOM, AuditMetric.CORRELATION): Bound(0.50),
    (AuditCheck.HEAT_MAP_DELETION, AuditMetric.ABOVE_CHANCE): Bound(0.0, "least"),
    (AuditCheck.HEAT_MAP_INSERTION, AuditMetric.ABOVE_CHANCE): Bound(0.0, "least"),
}
# The checks that a classifier has to pass.
BOUNDED = tuple(dict.fromkeys(check for check, _ in BOUNDS))
CHECK_NAMES: dict[AuditCheck, str] = {
    AuditCheck.WHOLE_IMAGE: "Whole image",
    AuditCheck.LUNGS_BLACK: "Lungs blacked out",
    AuditCheck.BORDER_ONLY: "Border only",
    AuditCheck.LUNGS_ONLY: "Lungs only",
    AuditCheck.MARKERS_REMOVED: "Markers removed",
    AuditCheck.MARKERS_PASTED: "Markers of another class pasted",
    AuditCheck.MIRRORED: "Mirrored",
    AuditCheck.SHARPNESS: "Sharpness of another site",
    AuditCheck.GREY_LEVELS: "Grey levels of another site",
    AuditCheck.JPEG: "JPEG compression",
    AuditCheck.HEALTHY_BY_SITE: "Healthy people by site",
    AuditCheck.HEAT_MAP_LUNGS: "Heat map on the lungs",
    AuditCheck.HEAT_MAP_RANDOM: "Heat map of random weights",
    AuditCheck.HEAT_MAP_DELETION: "Heat map, deletion",
    AuditCheck.HEAT_MAP_INSERTION: "Heat map, insertion",
    AuditCheck.SITE_PROBE: "Site from the embedding",
    AuditCheck.BY_SITE: "By site",
    AuditCheck.BY_VIEW: "By view",
    AuditCheck.BY_SEX: "By sex",
    AuditCheck.BY_AGE: "By age",
}
GROUP_CHECKS = (AuditCheck.BY_SITE, AuditCheck.BY_VIEW, AuditCheck.BY_SEX, AuditCheck.BY_AGE)


class AuditRow(JsonModel):
    """One measurement.

    Attributes:
        subject: the images it is of, such as "nih, pneumonia/normal".
        value: with its 95 % interval over patients.
    """

    check: AuditCheck
    metric: AuditMetric
    subject: str
    value: Interval

    @property
    def bound(self) -> Bound | None:
        """What it is judged by; None where it informs only."""
        return BOUNDS.get((self.check, self.metric))

    @property
    def passed(self) -> bool | None:
        """Whether it is within its bound; None where there is none."""
        return self.bound.holds(self.value.value) if self.bound else None


class AuditResult(JsonModel):
    """The audit of one classifier on the test images of one data set.

    Attributes:
        version: of the classifier.
        sha256: of its graph.
        created_at: ISO 8601, UTC.
        target: the disease that healthy people must not be called; empty where there is none.
        healthy: the class without a finding; empty where there is none.
        images: site -> label -> images measured.
        per_site: most images of a site, drawn at random; 0 for all.
        without_lungs: images in which no lungs were found; not part of what needs them.
        has_stand_ins: whether some images are synthetic ones of the demonstration set.
        unmeasured: check -> why it could not be measured.
        risk_coverage: (share answered, share of these wrong), by falling confidence.
        curves: name of a deletion or insertion curve -> (share of the image, probability).
    """

    version: str
    sha256: str
    created_at: str
    code_version: str
    target: str
    healthy: str
    images: dict[str, dict[str, int]]
    patients: int
    per_site: int
    seed: int
    draws: int
    without_lungs: int
    has_stand_ins: bool
    rows: list[AuditRow]
    unmeasured: dict[AuditCheck, str]
    risk_coverage: list[tuple[JsonFloat, JsonFloat]]
    curves: dict[str, list[tuple[JsonFloat, JsonFloat]]]
    format: int = 1

    @field_validator("created_at")
    @classmethod
    def _is_moment(cls, text: str) -> str:
        datetime.fromisoformat(text)
        return text

    @property
    def failed(self) -> list[AuditRow]:
        """The measurements outside of their bounds."""
        return [row for row in self.rows if row.passed is False]

    @property
    def missing(self) -> dict[AuditCheck, str]:
        """The checks with a bound that were not measured, and why."""
        measured = {row.check for row in self.rows if row.bound}
        return {
            check: self.unmeasured.get(check, "It is not part of the audit.")
            for check in BOUNDED
            if check not in measured
        }

    @property
    def passed(self) -> bool:
        """Whether every check with a bound was measured and passed."""
        return not self.failed and not self.missing

    def rows_of(self, checks: Sequence[AuditCheck]) -> list[AuditRow]:
        """The measurements of some checks."""
        return [row for row in self.rows if row.check in checks]


def read_audit(folder: Path, sha256: str) -> AuditResult | None:
    """The audit that lies beside a classifier; None where there is none.

    Args:
        folder: of the bundle.
        sha256: of its graph.

    Raises:
        BundleError: the file is damaged, or is the audit of another classifier.
    """
    try:
        found = AuditResult.from_json((folder / AUDIT).read_bytes())
    except FileNotFoundError:
        return None
    except InvalidJson as problem:
        raise BundleError(
            f"{AUDIT} of the bundle is no audit: {problem}. Run xray audit again."
        ) from problem
    if found.sha256 != sha256:
        raise BundleError(
            f"{AUDIT} of the bundle is of classifier {found.sha256[:12]}, not of {sha256[:12]}. "
            "Run xray audit again."
        )
    return found
