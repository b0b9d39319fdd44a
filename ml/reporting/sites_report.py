"""The leave-site-out measurement as rows, for the terminal and as Markdown."""

from collections.abc import Iterator
from typing import NamedTuple

from ml.evaluation.leave_site_out import SiteMetrics, SitesReport
from ml.evaluation.metrics import Interval
from ml.reporting.format import markdown_table

HEAD = ("left out", "metric", "value", "95 % interval", "images")


class SiteRow(NamedTuple):
    """One metric, as text."""

    left_out: str
    metric: str
    value: str
    interval: str
    images: str


def site_rows(report: SitesReport) -> list[SiteRow]:
    """All metrics: sites, pairs, other findings, and last the fit on held-out patients."""
    rows = [row for site in report.sites for row in _of_site(report, site)]
    contrast = f"AUROC {report.target}/{report.healthy}"
    for pair in report.pairs:
        rows.append(_row(f"{pair.healthy_site} + {pair.target_site}", contrast, pair.auroc))
    for name, interval in (("mean", report.pairs_mean), ("worst", report.pairs_worst)):
        if interval:
            rows.append(_row("pairs", f"{name} {contrast}", interval))
    for other in report.other_findings:
        where = " + ".join(other.left_out) or "none"
        rows.append(_row(where, f"{other.label} with a definite class", other.answered))
        called = f"{other.label} called {report.healthy}, definite"
        rows.append(_row(where, called, other.answered_healthy))
    held_out = "none: held-out patients"
    rows.append(_row(held_out, "accuracy", report.fit.accuracy))
    for site, interval in report.fit.specificity.items():
        rows.append(_row(held_out, f"specificity, {site}", interval))
    rows.append(_row(held_out, "specificity, mean of sites", report.fit.mean_specificity))
    return rows


def render_sites(report: SitesReport) -> str:
    """The measurement as a Markdown page."""
    skipped = "".join(
        f"\nNot measured: {' + '.join(names)} left out, since a class is nowhere else.\n"
        for names in report.skipped
    )
    return (
        "# Hospitals left out\n\n"
        "Each row is of a classifier that learned nothing from the sites it names. The last rows "
        "are of held-out patients of the training sites: where these are low, the classifier does "
        "not fit at all, and good rows above mean nothing.\n\n"
        f"{markdown_table(HEAD, site_rows(report))}\n{skipped}"
    )


def _of_site(report: SitesReport, site: SiteMetrics) -> Iterator[SiteRow]:
    target, healthy = report.target, report.healthy
    named = {
        "specificity": site.specificity,
        f"{healthy} called {target}": site.called_target,
        f"{healthy} called {target}, definite": site.definite_target,
        f"{target} sensitivity, threshold of other sites": site.sensitivity,
        **{f"{label} recall": interval for label, interval in site.recall.items()},
        **{f"AUROC {pair}": interval for pair, interval in site.auroc.items()},
        "share with a definite class": site.answered,
        "accuracy of those": site.accuracy,
        "calibration error of those": site.calibration_error,
    }
    for metric, interval in named.items():
        if interval:
            yield _row(site.site, metric, interval)


def _row(left_out: str, metric: str, value: Interval) -> SiteRow:
    numbers = [f"{number:.3f}" for number in (value.value, value.low, value.high)]
    if value.value != value.value:
        return SiteRow(left_out, metric, "not defined", "", str(value.n))
    return SiteRow(left_out, metric, numbers[0], f"{numbers[1]} to {numbers[2]}", str(value.n))
