"""Audit a classifier."""

from app.registry.registration import keep_audit
from app.runs.handlers.base import Completion, Input, InputType, RunResult, RunType
from app.runs.tables import RunLane
from ml.data.splits import Split
from ml.options.audit import AuditOptions
from ml.reporting.audit_report import summary


class AuditRunResult(RunResult):
    """The verdict of an audit."""

    classifier: str
    passed: bool
    verdict: list[str]


class AuditClassifier(RunType):
    """Audit a classifier, for the promotion checks."""

    name = "audit-classifier"
    measured_splits = (Split.TEST,)
    title = "Audit a classifier"
    summary = "Find out whether a classifier looks at the lungs or knows the hospital."
    program = ("ml", "audit")
    lane = RunLane.SHORT
    inputs = (
        Input("data", InputType.DATA, "Images to audit on."),
        Input("bundle", InputType.CLASSIFIER, "Classifier to audit."),
    )
    Options = AuditOptions
    uses_device = False

    def complete(self, done: Completion) -> AuditRunResult:
        """Put the audit beside the classifier."""
        model, result = keep_audit(
            done.session, done.settings, done.folder, by=done.run.requested_by
        )
        return AuditRunResult(
            classifier=model.sha256, passed=result.passed, verdict=[summary(result)]
        )
