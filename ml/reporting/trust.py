"""How far a classifier can be trusted, as sections: the same for the public page and the card.

Hospitals that it was not trained on come first. What was not measured is said to be not measured.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ml.classifier.card import ModelCard
from ml.evaluation.audit_result import CHECK_NAMES, GROUP_CHECKS, AuditCheck, AuditResult
from ml.evaluation.evidence import Evidence, UnseenReport
from ml.evaluation.leave_site_out import SitesReport
from ml.evaluation.metrics import Interval
from ml.labels import label_name
from ml.reporting.audit_report import (
    audit_chart,
    audit_texts,
    bounded_rows,
    checked_rows,
    measured_on,
    summary,
)
from ml.reporting.charts import curve_chart, reliability_chart
from ml.reporting.checklists import CLAIM, TRIPOD_AI, ChecklistItem
from ml.reporting.format import markdown_table, percent, three
from ml.reporting.sites_report import site_rows

NOT_MEASURED = "Not measured."
# From this share of healthy people called a disease on, the page warns first of all.
MOST_CALLED = 0.02
SITES_COMMAND = "xray evaluate sites --data DATA --other OTHER --out OUT"
AUDIT_COMMAND = "xray audit --data DATA --bundle BUNDLE --out OUT"
EVALUATION_COMMAND = "xray evaluate classifier --data DATA --bundle BUNDLE"
_CHECKLIST_HEAD = ("item", "asks for", "answer", "where")
_AUDIT_HEAD = ("check", "images", "metric", "value", "95 % interval", "n", "bound", "result")
_GROUP_HEAD = ("groups", "group", "metric", "value", "95 % interval", "n")


@dataclass(frozen=True, slots=True)
class TrustTable:
    """A table of texts."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    folded: bool = False


@dataclass(frozen=True, slots=True)
class TrustSection:
    """A part of the page.

    Attributes:
        id: of the heading, for links.
        texts: paragraphs.
        points: a list.
        charts: as SVG.
        command: that measures it; empty where there is none.
    """

    id: str
    title: str
    texts: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    tables: list[TrustTable] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    command: str = ""


def headline(evidence: Evidence) -> str:
    """What a reader must not miss, as a sentence."""
    if evidence.unseen:
        return evidence.unseen.headline
    if evidence.sites is None:
        return (
            "How this classifier does at hospitals that it was not trained on is not measured. "
            "Take it to be wrong there."
        )
    sites = evidence.sites
    called = [(site.definite_target, site.site) for site in sites.sites if site.definite_target]
    if not called:
        return "Healthy people of an unseen hospital were not measured."
    worst, name = max(called, key=lambda one: one[0].value)
    disease = label_name(sites.target)
    return (
        f"At the left-out site {name}, {percent(worst.value)} of healthy people are called "
        f"{disease} with a definite answer, not uncertain: the worst of {len(called)} left-out "
        f"sites. Measured for the same recipe, trained without the site."
    )


def is_alarming(evidence: Evidence) -> bool:
    """Whether unseen hospitals were not measured, or were measured and failed."""
    if evidence.unseen or evidence.sites is None:
        return True
    called = [site.definite_target for site in evidence.sites.sites if site.definite_target]
    return not called or any(one.value > MOST_CALLED for one in called)


def trust_sections(
    card: ModelCard, evidence: Evidence, versions: Sequence[tuple[str, ...]]
) -> list[TrustSection]:
    """All sections, in their order.

    Args:
        card: of the classifier.
        evidence: what was measured beside the card.
        versions: the history of model versions: date, version, what happened.
    """
    audit = evidence.audit
    return [
        _unseen(evidence.unseen, evidence.sites),
        _audit(audit),
        _calibration(card, evidence.sites),
        _coverage(card, audit),
        _groups(audit),
        _not_for(card),
        _history(versions),
        TrustSection("test-split", "Patients of the training hospitals", [_test_split(card)],
                     command=EVALUATION_COMMAND),
        _checklists(),
    ]  # fmt: skip


def render_trust(sections: Iterable[TrustSection]) -> str:
    """Sections as Markdown, without the charts."""
    return "\n\n".join(_markdown(section) for section in sections)


def _markdown(section: TrustSection) -> str:
    parts = [f"## {section.title}", *section.texts]
    if section.points:
        parts.append("\n".join(f"- {point}" for point in section.points))
    for table in section.tables:
        parts += [f"### {table.title}"] if table.title else []
        parts.append(markdown_table(table.head, table.rows))
    if section.command:
        parts.append(f"Command: `{section.command}`")
    return "\n\n".join(parts)


def _unseen(unseen: UnseenReport | None, sites: SitesReport | None) -> TrustSection:
    texts, tables = [], []
    if unseen:
        texts.append(unseen.protocol)
        rows: list[tuple[str, ...]] = [
            (one.metric, one.value, one.images) for one in unseen.measurements
        ]
        tables.append(TrustTable("", ("measurement", "value", "images"), rows))
    if sites:
        texts.append(
            "The same recipe was trained without each site, and measured there. The last rows are "
            "of held-out patients of the training sites: where these are low, the classifier does "
            "not fit at all."
        )
        tables.append(
            TrustTable(
                "Sites left out",
                ("left out", "metric", "value", "95 % interval", "images"),
                [tuple(row) for row in site_rows(sites)],
            )
        )
    else:
        texts.append(f"The recipe of this classifier, trained without each site: {NOT_MEASURED}")
    return TrustSection(
        "unseen", "Hospitals it was not trained on", texts, tables=tables, command=SITES_COMMAND
    )


def _audit(audit: AuditResult | None) -> TrustSection:
    if audit is None:
        return TrustSection("audit", "Audit", [NOT_MEASURED], command=AUDIT_COMMAND)
    missing = [
        f"{CHECK_NAMES[check]}: not measured. {reason}" for check, reason in audit.missing.items()
    ]
    rows: list[tuple[str, ...]] = [tuple(row) for row in audit_texts(checked_rows(audit))]
    texts = [
        f"**{summary(audit)}** {measured_on(audit)}",
        "The images are changed, and the classifier is asked again. With the lungs blacked out, or "
        "the border alone, it should not be able to tell the classes apart within a site (AUROC "
        "0.5). Letters in the corners, left and right, sharpness, grey levels and compression "
        "should not change its decision. A measurement without a bound informs only.",
    ]
    charts = [audit_chart(bounded_rows(audit))]
    if audit.curves:
        charts.append(
            curve_chart(
                audit.curves,
                title="Mean probability while parts of the image are removed or shown",
                x_label="share of the image removed (deletion) or shown (insertion)",
                y_label="mean probability",
            )
        )
    return TrustSection(
        "audit",
        "Audit",
        texts,
        missing,
        [TrustTable("Measurements", _AUDIT_HEAD, rows, folded=True)],
        charts,
        AUDIT_COMMAND,
    )


def _calibration(card: ModelCard, sites: SitesReport | None) -> TrustSection:
    error = card.metrics.calibration_error_interval
    texts = [
        f"Expected calibration error on patients of the training hospitals: {_text(error)}. On the "
        "diagonal the predicted probability is the share that is correct."
    ]
    rows: list[tuple[str, ...]] = [
        (site.site, *_pair(site.calibration_error), str(site.calibration_error.n))
        for site in (sites.sites if sites else [])
    ]
    if not rows:
        texts.append(f"At hospitals it was not trained on: {NOT_MEASURED}")
    head = ("left out", "calibration error", "95 % interval", "definite predictions")
    bins = card.metrics.reliability
    return TrustSection(
        "calibration",
        "Calibration",
        texts,
        tables=[TrustTable("", head, rows)] if rows else [],
        charts=[reliability_chart(bins, title="Reliability diagram")] if bins else [],
        command=EVALUATION_COMMAND,
    )


def _coverage(card: ModelCard, audit: AuditResult | None) -> TrustSection:
    selective = card.metrics.selective
    texts = [
        f"It gives a definite class for {_text(selective.coverage_interval)} of the test images, "
        f"and {_text(selective.accuracy_when_answering_interval)} of these are right, on patients "
        "of the training hospitals."
    ]
    if audit is None or not audit.risk_coverage:
        return TrustSection(
            "coverage", "When it abstains", [*texts, f"Risk-coverage curve: {NOT_MEASURED}"],
            command=AUDIT_COMMAND,
        )  # fmt: skip
    chart = curve_chart(
        {"share of the answers that are wrong": audit.risk_coverage},
        title="Risk-coverage curve",
        x_label="share of the images answered, the most confident first",
        y_label="share wrong",
        dots=True,
    )
    texts.append(
        "The curve shows how many of the answers are wrong if only the most confident images are "
        "answered. It is of the images of the audit."
    )
    rows: list[tuple[str, ...]] = [
        (percent(covered), percent(risk)) for covered, risk in audit.risk_coverage
    ]
    table = TrustTable("Curve", ("answered", "of these wrong"), rows, folded=True)
    return TrustSection(
        "coverage", "When it abstains", texts, tables=[table], charts=[chart], command=AUDIT_COMMAND
    )


def _groups(audit: AuditResult | None) -> TrustSection:
    title = "Groups of patients"
    if audit is None:
        return TrustSection("groups", title, [NOT_MEASURED], command=AUDIT_COMMAND)
    rows: list[tuple[str, ...]] = [
        tuple(row[:6]) for row in audit_texts(audit.rows_of(GROUP_CHECKS))
    ]
    measured = {
        row.check for row in audit.rows_of(GROUP_CHECKS) if not row.subject.startswith("unknown")
    }
    texts = [
        "Sensitivity is the share of the images of a class whose most probable class it is; "
        "specificity is the same of healthy people. Groups with fewer than ten patients of a class "
        "are left out."
    ]
    for check in (AuditCheck.BY_SEX, AuditCheck.BY_AGE, AuditCheck.BY_VIEW):
        if check not in measured:
            texts.append(f"{CHECK_NAMES[check]}: not measured. Too few images state it.")
    return TrustSection(
        "groups",
        title,
        texts,
        tables=[TrustTable("", _GROUP_HEAD, rows)],
        command=AUDIT_COMMAND,
    )


def _not_for(card: ModelCard) -> TrustSection:
    return TrustSection(
        "not-for",
        "What it must not be used for",
        [card.intended_use],
        [
            "The care of a patient: no diagnosis, no triage, no reassurance.",
            "Images of a hospital that is not among its sources.",
            "Diseases that are not among its classes: it has no answer for them and may call them "
            "one of its classes.",
            "Lateral images, computed tomography and other parts of the body.",
            *card.limitations,
        ],
    )


def _history(versions: Sequence[tuple[str, ...]]) -> TrustSection:
    head = ("date", "version", "what happened")
    if not versions:
        return TrustSection("history", "Model versions", ["No version was activated here."])
    return TrustSection("history", "Model versions", tables=[TrustTable("", head, [*versions])])


def _test_split(card: ModelCard) -> str:
    metrics = card.metrics
    return (
        f"Accuracy {_text(metrics.accuracy)}, macro AUROC {_text(metrics.macro_auroc)}, on "
        f"{metrics.images:,} test images of {metrics.patients:,} patients whose hospitals it was "
        "trained on. This is optimistic: the hospital partly gives the class away."
    )


def _checklists() -> TrustSection:
    return TrustSection(
        "checklists",
        "Reporting guidelines",
        ["The items of TRIPOD+AI and of CLAIM, 2024, in our own words."],
        tables=[
            TrustTable("TRIPOD+AI", _CHECKLIST_HEAD, _items(TRIPOD_AI), folded=True),
            TrustTable("CLAIM 2024", _CHECKLIST_HEAD, _items(CLAIM), folded=True),
        ],
    )


def _items(items: Sequence[ChecklistItem]) -> list[tuple[str, ...]]:
    return [tuple(item) for item in items]


def _pair(value: Interval) -> tuple[str, str]:
    return three(value.value), f"{three(value.low)} to {three(value.high)}"


def _text(value: Interval) -> str:
    if value.value != value.value:
        return "not measured"
    number, bounds = _pair(value)
    return f"{number} ({bounds})" if value.low == value.low else number
