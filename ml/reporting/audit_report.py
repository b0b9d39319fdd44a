"""An audit as rows, as Markdown, and as one picture."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from ml.evaluation.audit_result import AUDIT, CHECK_NAMES, GROUP_CHECKS, AuditResult, AuditRow
from ml.files import write_whole
from ml.reporting.format import markdown_table, three

HEAD = ("check", "images", "metric", "value", "95 % interval", "n", "bound", "result")
MARKDOWN, PICTURE = "audit.md", "audit.svg"
# Places of the picture's columns, and the height of its rows, in pixels.
_NAME, _PLOT, _VERDICT, _WIDTH, _ROW, _TOP = 8.0, 430.0, 775.0, 860.0, 22.0, 34.0
_PLOT_WIDTH = 320.0
_STYLE = """<style>
svg { background: #fff; font: 12px system-ui, sans-serif; }
text { fill: #14191e; } .tick { fill: #4d5760; } .grid { stroke: #dce0e3; }
.interval { stroke: #2563a8; stroke-width: 2; } .dot { fill: #2563a8; }
.bound { stroke: #14191e; stroke-width: 2; } .failed { fill: #a32a18; font-weight: 600; }
</style>"""


class AuditText(NamedTuple):
    """One measurement, as text."""

    check: str
    images: str
    metric: str
    value: str
    interval: str
    n: str
    bound: str
    result: str


def audit_texts(rows: Sequence[AuditRow]) -> list[AuditText]:
    """Measurements as text, in their order."""
    return [
        AuditText(
            CHECK_NAMES[row.check],
            row.subject,
            row.metric.value,
            three(row.value.value),
            f"{three(row.value.low)} to {three(row.value.high)}",
            str(row.value.n),
            row.bound.text if row.bound else "",
            verdict_text(row.passed),
        )
        for row in rows
    ]


def verdict_text(passed: bool | None) -> str:
    """Passed, failed, or nothing where there is no bound."""
    return "" if passed is None else "passed" if passed else "failed"


def checked_rows(result: AuditResult) -> list[AuditRow]:
    """The measurements that are not of groups of patients."""
    return [row for row in result.rows if row.check not in GROUP_CHECKS]


def summary(result: AuditResult) -> str:
    """The verdict as a sentence."""
    bounded = [row for row in result.rows if row.bound]
    text = f"{len(bounded) - len(result.failed)} of {len(bounded)} measurements passed"
    if result.missing:
        names = ", ".join(CHECK_NAMES[check].lower() for check in result.missing)
        text += f"; not measured: {names}"
    return f"Audit: {'passed' if result.passed else 'failed'}. {text}."


def measured_on(result: AuditResult) -> str:
    """Which images were measured, as sentences."""
    count = sum(sum(counts.values()) for counts in result.images.values())
    sample = (
        f" At most {result.per_site} images of a site were drawn at random."
        if result.per_site
        else ""
    )
    stand_ins = (
        " Some are synthetic images of the demonstration set, which say nothing about patients."
        if result.has_stand_ins
        else ""
    )
    return (
        f"Measured on {count:,} test images of {result.patients:,} patients and "
        f"{len(result.images)} sites.{sample}{stand_ins}"
    )


def render_audit(result: AuditResult) -> str:
    """The audit as a Markdown page."""
    missing = "".join(
        f"\n- {CHECK_NAMES[check]}: not measured. {reason}"
        for check, reason in result.missing.items()
    )
    return (
        f"# Audit of classifier {result.version}\n\n{summary(result)} {measured_on(result)}\n"
        f"{missing}\n\n{markdown_table(HEAD, audit_texts(checked_rows(result)))}\n\n"
        f"## Groups\n\n{markdown_table(HEAD, audit_texts(result.rows_of(GROUP_CHECKS)))}\n"
    )


def audit_chart(rows: Sequence[AuditRow]) -> str:
    """The measurements that have a bound: a dot, its interval, and the bound as an upright line.

    Colours are left to the page: the parts carry classes.
    """
    height = _TOP + _ROW * len(rows) + 8
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = _x(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP - 8}V{height - 8}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="18" text-anchor="middle">{tick:g}</text>')
    parts += [_chart_row(row, _TOP + _ROW * (k + 0.5)) for k, row in enumerate(rows)]
    title = "Measurements of the audit with their 95 % intervals and bounds"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" '
        f'width="{_WIDTH:g}" height="{height:g}" role="img" aria-label="{title}">'
        f"{''.join(parts)}</svg>"
    )


def _chart_row(row: AuditRow, y: float) -> str:
    name = escape(f"{CHECK_NAMES[row.check]}: {_short(row)}")
    value = row.value
    low, high = (number if number == number else value.value for number in (value.low, value.high))
    bound = row.bound
    return (
        f'<text class="name" x="{_NAME:g}" y="{y + 4:.1f}">{name}</text>'
        f'<path class="interval" d="M{_x(low):.1f} {y:.1f}H{_x(high):.1f}"/>'
        f'<circle class="dot" cx="{_x(value.value):.1f}" cy="{y:.1f}" r="4"/>'
        + (f'<path class="bound" d="M{_x(bound.limit):.1f} {y - 8:.1f}v16"/>' if bound else "")
        + f'<text class="{verdict_text(row.passed)}" x="{_VERDICT:g}" y="{y + 4:.1f}">'
        f"{verdict_text(row.passed)}</text>"
    )


def _short(row: AuditRow) -> str:
    what = row.metric.value.partition(",")[0]
    return what if row.subject == "all sites" else f"{row.subject}, {what}"


def _x(value: float) -> float:
    return _PLOT + _PLOT_WIDTH * min(max(value, 0.0), 1.0)


def bounded_rows(result: AuditResult) -> list[AuditRow]:
    """The measurements that have a bound."""
    return [row for row in result.rows if row.bound and row.value.value == row.value.value]


def write_audit(folder: Path, result: AuditResult) -> None:
    """Write the audit as JSON, as Markdown and as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / MARKDOWN, render_audit(result))
    chart = audit_chart(bounded_rows(result))
    write_whole(folder / PICTURE, chart.replace(">", f">{_STYLE}", 1))
    write_whole(folder / AUDIT, result.to_json())
