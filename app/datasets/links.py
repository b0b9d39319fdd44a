"""Links to data set versions."""

from app.core.links import PageLink
from app.datasets.tables import DataKind, DataVersion
from ml.texts import msg


def data_mark(version: DataVersion) -> str:
    """The mark beside a version's name; empty where there is none."""
    if version.contents.demonstration:
        return "demonstration"
    return "synthetic" if version.kind is DataKind.SYNTHETIC else ""


def data_url(sha256: str) -> str:
    """The page of a version."""
    return f"/admin/data/{sha256}"


def data_link(version: DataVersion) -> PageLink:
    """A link to a version; synthetic and demonstration images are marked as such."""
    return PageLink(data_mark(version) or msg("data set"), version.name, data_url(version.sha256))
