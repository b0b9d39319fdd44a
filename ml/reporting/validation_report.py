"""The validation of a classifier at a clinic as JSON and as one HTML file to print."""

from collections.abc import Iterator
from pathlib import Path

from ml.classifier.predictor import decision_name
from ml.evaluation.local_rule import MOST_CALLED_TARGET, MOST_WRONG, ClassRule, RuleEstimate
from ml.evaluation.local_validation import OperatingPoint, ValidationReport
from ml.files import write_whole
from ml.labels import label_name
from ml.reporting.format import percent, three
from ml.reporting.page import render_page, with_interval

VALIDATION, PAGE = "validation.json", "report.html"
_PROPERTIES = {
    "confidence": "probability of the most likely class",
    "ood_score": "out-of-distribution score",
    "embedding": "mean of the embeddings",
}


def write_validation(out: Path, report: ValidationReport) -> None:
    """Write `validation.json` and `report.html`; the folder is made where it is missing."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / VALIDATION, report.to_json())
    write_whole(out / PAGE, render_validation(report))


def render_validation(report: ValidationReport) -> str:
    """Render the page."""
    labelled = report.labelled
    return render_page(
        "validation.html",
        report=report,
        most_wrong=MOST_WRONG,
        most_called=MOST_CALLED_TARGET,
        auroc=list(auroc_rows(report)),
        points=[point_row(point) for point in labelled.operating_points] if labelled else [],
        rules=[rule_row(rule) for rule in labelled.rules] if labelled else [],
        estimates=list(estimate_rows(report)),
        decisions=list(decision_rows(report)),
        drift=list(drift_rows(report)),
    )


def auroc_rows(report: ValidationReport) -> Iterator[tuple[str, ...]]:
    """A row for each two classes."""
    for pair, interval in report.labelled.auroc.items() if report.labelled else ():
        names = " against ".join(map(label_name, pair.split("/")))
        yield names, with_interval(interval), str(interval.n)


def point_row(point: OperatingPoint) -> tuple[str, ...]:
    """Threshold, sensitivity, specificity and predictive values."""
    metrics = (
        point.sensitivity,
        point.specificity,
        point.positive_predictive_value,
        point.negative_predictive_value,
    )
    return label_name(point.label), three(point.threshold), *map(with_interval, metrics)


def rule_row(rule: ClassRule) -> tuple[str, ...]:
    """Threshold and what it rests on."""
    called = "" if rule.healthy_called is None else str(rule.healthy_called)
    limit = rule.healthy_called_at_most
    if rule.why_never:
        return label_name(rule.label), "never", "0", "", "", "", ""
    return (
        label_name(rule.label),
        three(rule.threshold),
        str(rule.definite),
        str(rule.wrong),
        percent(rule.wrong_at_most),
        called,
        "" if limit is None else percent(limit),
    )


def estimate_rows(report: ValidationReport) -> Iterator[tuple[str, ...]]:
    """The classifier's own thresholds beside the clinic's."""
    if report.labelled:
        yield "the classifier's own", *_estimate(report.labelled.own_thresholds)
        yield "the clinic's, estimated", *_estimate(report.labelled.estimated)


def _estimate(found: RuleEstimate) -> tuple[str, ...]:
    metrics = (found.answered, found.right, found.healthy_called_target)
    return tuple(with_interval(one) if one.n else "no image" for one in metrics)


def decision_rows(report: ValidationReport) -> Iterator[tuple[str, ...]]:
    """Images by prediction."""
    for decision, count in sorted(report.decisions.items()):
        yield decision_name(decision), str(count), percent(count / report.images)


def drift_rows(report: ValidationReport) -> Iterator[tuple[str, ...]]:
    """A row for each property; none without a reference."""
    for test in report.drift.tests if report.drift else []:
        yield (
            _PROPERTIES[test.property],
            test.test,
            three(test.distance),
            f"{test.p_value:.2g}",
            "differs" if test.differs else "no difference found",
        )
