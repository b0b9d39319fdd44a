"""Activate, archive, restore and roll back model versions."""

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.database import affected_rows, now
from app.core.errors import BadForm, Conflict
from app.registry.comparisons import standing_faults
from app.registry.files import carded_sha256, load_classifier, model_folder
from app.registry.queries import active_sha256, newest_activation, serving_sha256
from app.registry.tables import Activation, ModelKind, ModelVersion
from app.settings import Settings
from ml.errors import BundleError

LEAST_OVERRIDE = 20


def archive(session: Session, settings: Settings, model: ModelVersion, *, by: str) -> None:
    """Take a model out of use; its files and its card stay.

    Raises:
        Conflict: it is active, or archived already.
    """
    live = (ModelVersion.sha256 == model.sha256, ModelVersion.archived_at.is_(None))
    if not affected_rows(session, update(ModelVersion).where(*live).values(archived_at=now())):
        raise Conflict(f"model {model.version} is archived already")
    # Asked after the row is ours: whoever wants to activate it waits, and finds it archived.
    if serving_sha256(session, settings) == model.sha256:
        session.rollback()
        raise Conflict("this classifier is active: put another one active first")
    session.refresh(model)
    session.add(AuditEvent(actor=by, action="model.archived", subject=model.sha256))


def restore(session: Session, model: ModelVersion, *, by: str) -> None:
    """Take a archived model back into use.

    Raises:
        Conflict: it is not archived.
    """
    archived = (ModelVersion.sha256 == model.sha256, ModelVersion.archived_at.is_not(None))
    if not affected_rows(session, update(ModelVersion).where(*archived).values(archived_at=None)):
        raise Conflict(f"model {model.version} is not archived")
    session.refresh(model)
    session.add(AuditEvent(actor=by, action="model.restored", subject=model.sha256))


def promotion_blockers(session: Session, settings: Settings, model: ModelVersion) -> list[str]:
    """Why a classifier should not be activated; nothing where it may be."""
    unusable = _unusable(settings, model)
    return [*_comparison_faults(session, settings, model), *([unusable] if unusable else [])]


def _comparison_faults(session: Session, settings: Settings, model: ModelVersion) -> list[str]:
    reference = serving_sha256(session, settings)
    if reference is None or reference == model.sha256:
        return []
    return standing_faults(session, model, reference)


def _unusable(settings: Settings, model: ModelVersion) -> str | None:
    """Why a classifier cannot answer images; looks at its files, which may have changed."""
    try:
        predictor = load_classifier(model_folder(settings, model))
    except (BundleError, Conflict) as problem:
        return f"it cannot be used: {problem}"
    if predictor.card.sha256 != model.sha256:
        return "it cannot be used: its folder holds another model"
    return None


def activate(
    session: Session,
    settings: Settings,
    model: ModelVersion,
    *,
    by: str,
    override: str | None = None,
    seen: str | None = None,
) -> Activation:
    """Put a classifier active; it answers when this commits.

    Args:
        session: the database.
        settings: name the home folder and the released bundle.
        model: the classifier.
        by: who does it.
        override: why, in spite of the promotion checks; kept only where there is something to
            override.
        seen: the classifier that was active when they decided; None: whichever is now.

    Raises:
        BadForm: a promotion check is closed and there is no override of at least 20 characters.
        Conflict: it is active, archived or unusable, or another admin was quicker.
    """
    last, present = newest_activation(session), serving_sha256(session, settings)
    if model.kind is not ModelKind.CLASSIFIER:
        raise Conflict("only a classifier can be activated")
    if model.sha256 == present:
        raise Conflict(f"model {model.version} is active already")
    if seen not in (None, present):
        raise _overtaken()
    # Nothing can override this: there would be no answers.
    if unusable := _unusable(settings, model):
        raise Conflict(unusable)
    faults = _comparison_faults(session, settings, model)
    # PostgreSQL takes no NUL in a text.
    why = (override or "").replace("\0", "").strip()
    if faults and len(why) < LEAST_OVERRIDE:
        raise BadForm(
            {
                "override": f"{'; '.join(faults)}: to put it active all the same, say why in "
                f"at least {LEAST_OVERRIDE} characters, which the audit log keeps"
            }
        )
    about = {"override": why, "faults": faults} if faults else {}
    return _record_activation(session, model, last, present, by, "model.activated", about)


def roll_back_target(session: Session, settings: Settings) -> ModelVersion | None:
    """The classifier that was active before the present one and is not archived, if any."""
    present = active_sha256(session)
    if present is None:
        return None
    earlier = session.scalars(select(Activation.model_sha256).order_by(Activation.id.desc()))
    for sha256 in dict.fromkeys([*earlier, carded_sha256(settings.bundle)]):
        model = session.get(ModelVersion, sha256) if sha256 else None
        if model and model.sha256 != present and model.archived_at is None:
            return model
    return None


def roll_back(
    session: Session, settings: Settings, *, by: str, seen: str | None = None
) -> Activation:
    """Put the classifier back active that was there before; it needs no comparison.

    Args:
        session: the database.
        settings: name the home folder and the released bundle.
        by: who does it.
        seen: the classifier that was active when they decided; None: whichever is now.

    Raises:
        Conflict: there is none, it is unusable, or another admin was quicker.
    """
    last, present = newest_activation(session), serving_sha256(session, settings)
    if seen not in (None, present):
        raise _overtaken()
    target = roll_back_target(session, settings)
    if target is None:
        raise Conflict("there is no earlier classifier to go back to")
    if unusable := _unusable(settings, target):
        raise Conflict(unusable)
    return _record_activation(session, target, last, present, by, "model.rolled-back", {})


def _record_activation(
    session: Session,
    model: ModelVersion,
    last: Activation | None,
    present: str | None,
    by: str,
    action: str,
    about: dict[str, Any],
) -> Activation:
    # A write that changes nothing: `archive` waits for it, or it finds the model archived.
    live = (ModelVersion.sha256 == model.sha256, ModelVersion.archived_at.is_(None))
    if not affected_rows(session, update(ModelVersion).where(*live).values(archived_at=None)):
        raise Conflict(f"model {model.version} is archived: take it back into use first")
    activation = Activation(
        id=last.id + 1 if last else 1,
        at=now(),
        by=by,
        model_sha256=model.sha256,
        override=about.get("override"),
    )
    session.add(activation)
    try:
        session.flush()
    except IntegrityError as problem:
        session.rollback()
        raise _overtaken() from problem
    session.add(
        AuditEvent(
            actor=by,
            action=action,
            subject=model.sha256,
            detail={"version": model.version, "instead_of": present, **about},
        )
    )
    return activation


def _overtaken() -> Conflict:
    return Conflict(
        "another classifier was activated meanwhile: nothing was changed, look at it first"
    )
