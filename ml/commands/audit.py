"""`xray audit`: does a classifier look at the lungs, or does it know the hospital?"""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml.classifier.bundle import PRETRAINED, read_bundle
from ml.classifier.predictor import Predictor
from ml.commands.classifier import BundleFolder
from ml.commands.common import DataFolder
from ml.commands.options_to_flags import with_flags
from ml.data.manifest import read_manifest
from ml.evaluation.audit_result import AUDIT, AuditResult
from ml.option_fields import validated_options
from ml.options.audit import AuditOptions
from ml.reporting.audit_report import HEAD, PICTURE, audit_texts, summary, write_audit


@with_flags(AuditOptions, panel="Options of the audit")
def audit_command(
    data: DataFolder,
    bundle: BundleFolder = PRETRAINED,
    out: Annotated[
        Path | None, typer.Option(help="Folder for audit.json, audit.md and audit.svg.")
    ] = None,
    **given: Any,
) -> None:
    """Audit a classifier on the test split: the promotion checks use the result.

    Put audit.json beside the bundle's card before registering it, or register the bundle again.
    A measurement outside of its bound is a result, not an error: the exit status is 0.
    """
    from ml.evaluation.audit import audit_classifier

    predictor, graph = Predictor.load(bundle), read_bundle(bundle)[1]
    options = validated_options(AuditOptions, given)
    result = audit_classifier(predictor, graph, read_manifest(data), options)
    _print_audit(result)
    if out:
        write_audit(out, result)
        print(f"wrote {out / AUDIT} and {out / PICTURE}")


def _print_audit(result: AuditResult) -> None:
    table = Table(*HEAD)
    for row in audit_texts(result.rows):
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(summary(result))
