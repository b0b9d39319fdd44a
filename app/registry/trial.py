"""Which models may serve in trial mode only: those of demonstration or unchecked images."""

from collections.abc import Iterator

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.datasets.tables import DataVersion
from app.gallery.tables import SyntheticImage
from app.registry.tables import ModelVersion
from app.runs.tables import Run
from ml.classifier.card import ModelCard
from ml.data.manifest import DEMONSTRATION
from ml.texts import msg


def trial_reasons(session: Session, model: ModelVersion) -> list[str]:
    """Why a classifier may serve in trial mode only, in sentences; empty where it may serve.

    Args:
        session: the database, with the run, the data sets and the generators of the model.
        model: a classifier.
    """
    return list(dict.fromkeys(_reasons(session, model)))


def _reasons(session: Session, model: ModelVersion) -> Iterator[str]:
    if learned_from_demonstration(model.classifier_card) or _is_demonstration(session, model):
        yield msg("It was trained on synthetic images of the demonstration set, not on patients.")
    for sha256 in model.parents:
        generator = session.get(ModelVersion, sha256)
        if generator and _is_demonstration(session, generator):
            yield (
                msg(
                    "It was trained on images of generator %(version)s, which was trained on the "
                    "demonstration set.",
                    version=generator.version,
                )
            )
    if unchecked := _unchecked_images(session, model):
        yield (
            msg(
                "%(unchecked)s of its synthetic training images had no privacy check, so "
                "they may show a patient's image again.",
                unchecked=unchecked,
            )
        )


def learned_from_demonstration(card: ModelCard) -> bool:
    """Whether a card names the demonstration set among the sources of any split."""
    return any(DEMONSTRATION in sources for sources in card.data.by_source.values())


def _is_demonstration(session: Session, model: ModelVersion) -> bool:
    data = session.get(DataVersion, model.data_sha256) if model.data_sha256 else None
    return data is not None and data.contents.demonstration > 0


def _unchecked_images(session: Session, model: ModelVersion) -> int:
    """Number of synthetic training images without a privacy check, by the run of the model."""
    run = session.get(Run, model.run_id) if model.run_id else None
    named = run.options.get("synthetic") if run else None
    sets = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    if not sets:
        return 0
    query = (
        select(func.count())
        .select_from(SyntheticImage)
        .where(
            SyntheticImage.data_sha256.in_([str(one) for one in sets]),
            SyntheticImage.nearest_percentile.is_(None),
        )
    )
    return session.scalar(query) or 0
