"""Look up model versions, their lineage and the active classifier."""

import re
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import NotFound
from app.datasets.tables import DataVersion
from app.gallery.tables import SyntheticImage
from app.registry.files import carded_sha256
from app.registry.tables import Activation, ModelKind, ModelVersion
from app.runs.tables import Run
from app.settings import Settings
from ml.texts import msg

# --- finding -------------------------------------------------------------------------------------


def find_model(session: Session, sha256: str) -> ModelVersion:
    """Fetch a model.

    Raises:
        NotFound: there is no such model.
    """
    # PostgreSQL takes no NUL in a text, so not every address may be asked for.
    found = re.fullmatch("[0-9a-f]{64}", sha256) and session.get(ModelVersion, sha256)
    if not found:
        raise NotFound(msg("This model is not registered."))
    return found


def list_models(
    session: Session, kind: ModelKind | None = None, *, all_of_them: bool = False
) -> list[ModelVersion]:
    """Models, newest first: those that can be used, or really all.

    Args:
        session: the database.
        kind: of this kind only.
        all_of_them: also those that are archived or of which only the card is kept.
    """
    query = select(ModelVersion).order_by(ModelVersion.registered_at.desc(), ModelVersion.sha256)
    if kind is not None:
        query = query.where(ModelVersion.kind == kind)
    if not all_of_them:
        query = query.where(ModelVersion.folder.is_not(None), ModelVersion.archived_at.is_(None))
    return list(session.scalars(query))


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a model comes from, and what was made with it.

    Attributes:
        run: that made it.
        data: the images that it learned from.
        parents: the generators whose images it learned from, by SHA-256; None where one is not
            here.
        children: the classifiers that learned from its images.
        synthetic: the data sets that hold its images.
    """

    run: Run | None
    data: DataVersion | None
    parents: dict[str, ModelVersion | None]
    children: list[ModelVersion]
    synthetic: list[DataVersion]


def lineage(session: Session, model: ModelVersion) -> Lineage:
    """Look both ways from a model."""
    classifiers = select(ModelVersion).where(ModelVersion.kind == ModelKind.CLASSIFIER)
    made_of_it = select(SyntheticImage.data_sha256).where(
        SyntheticImage.model_sha256 == model.sha256
    )
    return Lineage(
        run=session.get(Run, model.run_id) if model.run_id else None,
        data=session.get(DataVersion, model.data_sha256) if model.data_sha256 else None,
        parents={sha256: session.get(ModelVersion, sha256) for sha256 in model.parents},
        # Few rows, and no way to look into a JSON list that both databases have.
        children=[
            other
            for other in session.scalars(classifiers.order_by(ModelVersion.registered_at))
            if model.sha256 in other.parents
        ],
        synthetic=list(
            session.scalars(select(DataVersion).where(DataVersion.sha256.in_(made_of_it)))
        ),
    )


# --- active ----------------------------------------------------------------------------------


def newest_activation(session: Session) -> Activation | None:
    """The activation that holds; None where nothing was ever activated."""
    return session.scalar(select(Activation).order_by(Activation.id.desc()).limit(1))


def active_sha256(session: Session) -> str | None:
    """The classifier that was activated last; None: the configured bundle is active."""
    return session.scalar(select(Activation.model_sha256).order_by(Activation.id.desc()).limit(1))


def serving_sha256(session: Session, settings: Settings) -> str | None:
    """The classifier that answers images: the last one activated, or that of the bundle."""
    return active_sha256(session) or carded_sha256(settings.bundle)
