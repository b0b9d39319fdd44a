"""Audit a classifier."""

from sqlalchemy.orm import Session

from app.datasets.tables import DataVersion
from app.registry.registration import keep_audit
from app.runs.handlers.base import (
    Completion,
    Input,
    InputType,
    RunResult,
    RunType,
    length_options,
    on_each_device,
    typed_values,
)
from app.runs.tables import RunLane
from app.runs.work import Work, images_of
from ml.data.splits import Split
from ml.json_model import JsonObject
from ml.options.audit import AuditOptions
from ml.reporting.audit_report import summary
from ml.texts import msg


class AuditRunResult(RunResult):
    """The verdict of an audit."""

    classifier: str
    passed: bool
    verdict: list[str]


class AuditClassifier(RunType):
    """Audit a classifier, for the promotion checks."""

    name = "audit-classifier"
    measured_splits = (Split.TEST,)
    title = msg("Audit a classifier")
    summary = msg("Find out whether a classifier looks at the lungs or knows the hospital.")
    program = ("ml", "audit")
    lane = RunLane.SHORT
    inputs = (
        Input("data", InputType.DATA, msg("Images to audit on.")),
        Input("bundle", InputType.CLASSIFIER, msg("Classifier to audit.")),
    )
    Options = AuditOptions
    uses_device = False
    lengths = on_each_device(
        length_options(trial={"per_site": 20}, standard={"per_site": 200}, long={"per_site": 0})
    )

    def work(self, session: Session, options: JsonObject) -> Work | None:
        """The test images; of each site at most so many."""
        images = images_of(session, options, Split.TEST)
        per_site = typed_values(AuditOptions, self, options).per_site
        version = session.get(DataVersion, str(options["data"]))
        if not images or version is None:
            return None
        if per_site:
            images = min(images, per_site * max(1, len(version.contents.by_source)))
        return Work("", images, 1, msg("at most %(count)s images", count=images))

    def complete(self, done: Completion) -> AuditRunResult:
        """Put the audit beside the classifier."""
        model, result = keep_audit(
            done.session, done.settings, done.folder, by=done.run.requested_by
        )
        return AuditRunResult(
            classifier=model.sha256, passed=result.passed, verdict=[summary(result)]
        )
