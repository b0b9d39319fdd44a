"""Links to models in the console."""

from app.core.links import PageLink
from app.registry.tables import ModelVersion


def model_url(sha256: str) -> str:
    """The page of a model."""
    return f"/admin/models/{sha256}"


def model_link(model: ModelVersion) -> PageLink:
    """A link to a model: "classifier" or "generator", and its version."""
    return PageLink(model.kind.value, model.version, model_url(model.sha256))
