"""Activate, archive, restore and roll back model versions."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.database import affected_rows, now
from app.core.errors import Conflict, InvalidForm
from app.registry.activation_history import roll_back_target, was_rolled_back
from app.registry.comparisons import find_deciding_comparison
from app.registry.files import evidence_of, model_folder
from app.registry.promotion import Blocker, PromotionCase, promotion_blockers
from app.registry.queries import newest_activation, serving_sha256
from app.registry.tables import Activation, ModelKind, ModelVersion
from app.registry.trial import trial_reasons
from app.settings import Settings
from ml.errors import BundleError
from ml.model_check import load_classifier
from ml.texts import msg

MIN_OVERRIDE_LENGTH = 20


def archive(session: Session, settings: Settings, model: ModelVersion, *, by: str) -> None:
    """Take a model out of use; its files and its card stay.

    Raises:
        Conflict: it is active, or archived already.
    """
    live = (ModelVersion.sha256 == model.sha256, ModelVersion.archived_at.is_(None))
    if not affected_rows(session, update(ModelVersion).where(*live).values(archived_at=now())):
        raise Conflict(msg("Model %(version)s is archived already.", version=model.version))
    # Checked once the row is locked: an activation at the same moment waits, and finds the model
    # archived.
    if serving_sha256(session, settings) == model.sha256:
        session.rollback()
        raise Conflict(
            msg(
                "Classifier %(version)s is active and cannot be archived. Activate another "
                "classifier first.",
                version=model.version,
            )
        )
    session.refresh(model)
    session.add(AuditEvent(actor=by, action="model.archived", subject=model.sha256))


def restore_model(session: Session, model: ModelVersion, *, by: str) -> None:
    """Make an archived model available again.

    Raises:
        Conflict: it is not archived.
    """
    archived = (ModelVersion.sha256 == model.sha256, ModelVersion.archived_at.is_not(None))
    if not affected_rows(session, update(ModelVersion).where(*archived).values(archived_at=None)):
        raise Conflict(msg("Model %(version)s is not archived.", version=model.version))
    session.refresh(model)
    session.add(AuditEvent(actor=by, action="model.restored", subject=model.sha256))


def find_blockers(session: Session, settings: Settings, model: ModelVersion) -> list[Blocker]:
    """The promotion checks that a classifier fails; loads its files, which may have changed."""
    active = serving_sha256(session, settings)
    load_fault = _load_fault(settings, model)
    case = PromotionCase(
        candidate=model,
        active_sha256=active,
        active=session.get(ModelVersion, active) if active else None,
        comparison=find_deciding_comparison(session, model, active),
        load_fault=load_fault,
        trial_reasons=trial_reasons(session, model),
        is_trial_mode=settings.trial_mode,
        was_rolled_back=was_rolled_back(session, settings, model),
        looked_for_audit=load_fault is None,
        audit=None if load_fault else evidence_of(settings, model).audit,
    )
    return promotion_blockers(case)


def _load_fault(settings: Settings, model: ModelVersion) -> str | None:
    """Why a classifier's files cannot be used; None where they can."""
    try:
        predictor = load_classifier(model_folder(settings, model))
        evidence_of(settings, model)
    except (BundleError, Conflict) as problem:
        return f"The classifier cannot be used: {problem}"
    if predictor.card.sha256 != model.sha256:
        return msg(
            "The classifier cannot be used: its folder holds another model. Register it again."
        )
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
    """Make a classifier the active version; it serves predictions once this is committed.

    Args:
        session: the database.
        settings: name the home folder and the released bundle.
        model: the classifier.
        by: the acting user.
        override: the reason for activating it although promotion checks failed; recorded only
            where one did.
        seen: the version that was active when the user decided; None: the present one.

    Raises:
        InvalidForm: a promotion check failed, and the reason is shorter than `MIN_OVERRIDE_LENGTH`.
        Conflict: it is active, archived or unusable, or another admin was faster.
    """
    standing = _Standing.of(session, settings)
    if model.kind is not ModelKind.CLASSIFIER:
        raise Conflict(msg("Only a classifier can be activated."))
    if model.sha256 == standing.active:
        raise Conflict(msg("Classifier %(version)s is active already.", version=model.version))
    standing.require(seen)
    blockers = find_blockers(session, settings, model)
    final = [blocker.reason for blocker in blockers if not blocker.can_be_overridden]
    if final:
        raise Conflict(" ".join(final))
    reasons = [blocker.reason for blocker in blockers]
    # PostgreSQL stores no NUL in a text.
    why = (override or "").replace("\0", "").strip()
    if reasons and len(why) < MIN_OVERRIDE_LENGTH:
        raise InvalidForm(
            {
                "override": msg(
                    "%(reasons)s To activate it anyway, give a reason of at least "
                    "%(min_override_length)s characters. The audit log keeps it.",
                    reasons=" ".join(reasons),
                    min_override_length=MIN_OVERRIDE_LENGTH,
                )
            }
        )
    event = _ActivationEvent(
        "model.activated", by, override=why if reasons else None, faults=reasons
    )
    return _record_activation(session, model, standing, event)


def roll_back(
    session: Session, settings: Settings, *, by: str, seen: str | None = None
) -> Activation:
    """Activate the classifier before the active one, which passed its checks or was installed.

    Args:
        session: the database.
        settings: name the home folder and the released bundle.
        by: the acting user.
        seen: the version that was active when the user decided; None: the present one.

    Raises:
        Conflict: there is none, it is unusable, or another admin was faster.
    """
    standing = _Standing.of(session, settings)
    standing.require(seen)
    target = roll_back_target(session, settings)
    if target is None:
        raise Conflict(
            msg(
                "There is no earlier classifier to roll back to: only one that passed its "
                "promotion checks, or that came with the application, counts."
            )
        )
    if fault := _load_fault(settings, target):
        raise Conflict(fault)
    return _record_activation(session, target, standing, _ActivationEvent("model.rolled-back", by))


@dataclass(frozen=True, slots=True)
class _Standing:
    """What is active at the moment of a decision."""

    last: Activation | None
    active: str | None

    @classmethod
    def of(cls, session: Session, settings: Settings) -> "_Standing":
        return cls(newest_activation(session), serving_sha256(session, settings))

    def require(self, seen: str | None) -> None:
        """Refuse a decision that was made on an outdated page."""
        if seen not in (None, self.active):
            raise _outdated()


@dataclass(frozen=True, slots=True)
class _ActivationEvent:
    """Who activates, and what the audit log says of it."""

    action: str
    by: str
    override: str | None = None
    faults: Sequence[str] = ()

    def detail(self, model: ModelVersion, active: str | None) -> dict[str, object]:
        overridden = {"override": self.override, "faults": [*self.faults]} if self.faults else {}
        return {"version": model.version, "instead_of": active, **overridden}


def _record_activation(
    session: Session, model: ModelVersion, standing: _Standing, event: _ActivationEvent
) -> Activation:
    # An update that changes nothing locks the row: `archive` waits for it, or it finds the model
    # archived.
    live = (ModelVersion.sha256 == model.sha256, ModelVersion.archived_at.is_(None))
    if not affected_rows(session, update(ModelVersion).where(*live).values(archived_at=None)):
        raise Conflict(
            msg("Model %(version)s is archived. Restore it first.", version=model.version)
        )
    activation = Activation(
        id=standing.last.id + 1 if standing.last else 1,
        at=now(),
        by=event.by,
        model_sha256=model.sha256,
        override=event.override,
    )
    session.add(activation)
    try:
        session.flush()
    except IntegrityError as problem:
        session.rollback()
        raise _outdated() from problem
    session.add(
        AuditEvent(
            actor=event.by,
            action=event.action,
            subject=model.sha256,
            detail=event.detail(model, standing.active),
        )
    )
    return activation


def _outdated() -> Conflict:
    return Conflict(
        msg(
            "Another classifier was activated in the meantime. Nothing was changed. "
            "Check the active version, then decide again."
        )
    )
