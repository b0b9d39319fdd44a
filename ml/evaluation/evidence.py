"""What lies beside a classifier and says how far to trust it: the one place where it is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ml.errors import BundleError
from ml.evaluation.audit_result import AUDIT, AuditResult, read_audit
from ml.evaluation.leave_site_out import SitesReport
from ml.json_model import InvalidJson, JsonModel

SITES, UNSEEN = "sites.json", "unseen.json"
EVIDENCE_FILES = (AUDIT, SITES, UNSEEN)
_Contract = TypeVar("_Contract", bound=JsonModel)


class UnseenMeasurement(JsonModel):
    """One measurement at hospitals that the classifier was not trained on, as text."""

    metric: str
    value: str
    images: str


class UnseenReport(JsonModel):
    """`unseen.json`: what was measured of a classifier on images that are not in its data set.

    Attributes:
        sha256: of the classifier's graph.
        headline: the finding that a reader must not miss, as a sentence.
        protocol: how it was measured.
    """

    sha256: str
    headline: str
    protocol: str
    measurements: list[UnseenMeasurement]
    format: int = 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured of a classifier beside its card; None where a measurement is missing."""

    audit: AuditResult | None = None
    sites: SitesReport | None = None
    unseen: UnseenReport | None = None


def read_evidence(folder: Path, sha256: str) -> Evidence:
    """Read and check what lies beside a classifier.

    Args:
        folder: of the bundle.
        sha256: of its graph.

    Raises:
        BundleError: a file is damaged, or is of another classifier.
    """
    unseen = _read(folder / UNSEEN, UnseenReport)
    if unseen and unseen.sha256 != sha256:
        raise BundleError(
            f"{UNSEEN} of the bundle is of classifier {unseen.sha256[:12]}, not of {sha256[:12]}. "
            "Remove it."
        )
    return Evidence(read_audit(folder, sha256), _read(folder / SITES, SitesReport), unseen)


def _read(path: Path, contract: type[_Contract]) -> _Contract | None:
    try:
        return contract.from_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except InvalidJson as problem:
        raise BundleError(
            f"{path.name} of the bundle is damaged: {problem}. Write it again or remove it."
        ) from problem
