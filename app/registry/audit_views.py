"""The audit of a classifier on pages."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from markupsafe import Markup

from ml.evaluation.audit_result import CHECK_NAMES, AuditResult
from ml.reporting.audit_report import (
    AuditText,
    audit_chart,
    audit_texts,
    bounded_rows,
    measured_on,
    summary,
)


@dataclass(frozen=True, slots=True)
class AuditView:
    """An audit on the page of its model.

    Attributes:
        missing: the checks that could not be measured, with the reason.
        chart: the measurements that have a bound, as SVG.
    """

    passed: bool
    verdict: str
    measured_on: str
    at: datetime
    rows: list[AuditText]
    missing: list[tuple[str, str]]
    chart: Markup

    @classmethod
    def of(cls, result: AuditResult) -> Self:
        """Show an audit."""
        rows = bounded_rows(result)
        return cls(
            passed=result.passed,
            verdict=summary(result),
            measured_on=measured_on(result),
            at=datetime.fromisoformat(result.created_at),
            rows=audit_texts(rows),
            missing=[(CHECK_NAMES[check], reason) for check, reason in result.missing.items()],
            # The chart escapes what it writes.
            chart=Markup(audit_chart(rows)),  # noqa: S704
        )
