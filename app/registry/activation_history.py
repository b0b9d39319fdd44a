"""The past activations of classifiers: which one a roll back leads to, and which ones it left."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.registry.files import carded_sha256
from app.registry.tables import Activation, ModelVersion
from app.registry.trial import trial_reasons
from app.settings import Settings


def roll_back_target(session: Session, settings: Settings) -> ModelVersion | None:
    """The classifier that a roll back makes active, if any.

    It is the nearest one below the active version that is not archived, that may serve, and that
    passed its promotion checks or came with the application. A version that was activated by an
    override is passed over, and so is one that a roll back left: going forward is an activation.
    """
    line = _active_line(session, settings)
    for sha256 in reversed(line[:-1]):
        model = session.get(ModelVersion, sha256)
        if model and _may_be_returned_to(session, settings, model):
            return model
    return None


def was_rolled_back(session: Session, settings: Settings, model: ModelVersion) -> bool:
    """Whether a model was active and a roll back left it."""
    was_active = select(Activation.id).where(Activation.model_sha256 == model.sha256).limit(1)
    return session.scalar(was_active) is not None and model.sha256 not in _active_line(
        session, settings
    )


def _active_line(session: Session, settings: Settings) -> list[str]:
    """SHA-256 of the installed classifier and of those activated one upon the other since.

    The last one is active. Returning to an earlier one takes those above it away.
    """
    installed = carded_sha256(settings.bundle)
    line = [installed] if installed else []
    for sha256 in session.scalars(select(Activation.model_sha256).order_by(Activation.id)):
        if sha256 in line:
            del line[line.index(sha256) + 1 :]
        else:
            line.append(sha256)
    return line


def _may_be_returned_to(session: Session, settings: Settings, model: ModelVersion) -> bool:
    return (
        model.archived_at is None
        and _is_approved(session, settings, model)
        and (settings.trial_mode or not trial_reasons(session, model))
    )


def _is_approved(session: Session, settings: Settings, model: ModelVersion) -> bool:
    """Whether a model came with the application or passed its checks when it was first activated.

    Later activations do not count: version 0.1.0 recorded a roll back, which checks nothing, like
    an activation that passed.
    """
    if model.sha256 == carded_sha256(settings.bundle):
        return True
    first = session.scalar(
        select(Activation)
        .where(Activation.model_sha256 == model.sha256)
        .order_by(Activation.id)
        .limit(1)
    )
    return first is not None and first.override is None
