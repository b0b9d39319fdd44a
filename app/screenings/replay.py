"""A past prediction recomputed from the stored image by the classifier that made it."""

import hashlib
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.errors import AppError, NotFound
from app.core.storage import Storage
from app.registry.files import carded_sha256, model_folder
from app.registry.queries import find_model
from app.screenings.stored_images import image_key
from app.screenings.tables import Screening
from app.settings import Settings
from ml.classifier.bundle import PRETRAINED
from ml.classifier.predictor import Prediction, Predictor, decided_by
from ml.classifier.upright import predict_upright
from ml.errors import BundleError
from ml.imaging.decode import read_image
from ml.imaging.orientation import OrientationCheck
from ml.imaging.preprocessing import standardise
from ml.imaging.types import THUMBNAIL_SIDE, UnreadableImage

# Another processor may round the last digits otherwise.
TOLERANCE = 1e-4


@dataclass(slots=True)
class Replay:
    """What a replay has found.

    Attributes:
        screening: its id.
        model: version and SHA-256 of the classifier that answered.
        decided_by: whose thresholds decided.
        same_input: whether the classifier was given the same pixels; None: not recorded then.
        largest_difference: of a probability; None where nothing could be recomputed.
        faults: what differs or is missing, as sentences; none: the prediction is reproduced.
        notes: what explains a difference.
    """

    screening: uuid.UUID
    model: str
    decided_by: str
    same_input: bool | None = None
    largest_difference: float | None = None
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether the prediction was reproduced."""
        return not self.faults


def replay(
    session: Session,
    settings: Settings,
    storage: Storage,
    id: uuid.UUID,
    *,
    tolerance: float = TOLERANCE,
) -> Replay:
    """Recompute a prediction, and compare it with the recorded one.

    Args:
        session: the database.
        settings: where models lie.
        storage: of images.
        id: of the screening.
        tolerance: the largest difference of a probability that counts as none.

    Raises:
        NotFound: there is no such screening; says when it was deleted.
    """
    row = session.get(Screening, id)
    if row is None:
        raise NotFound(_why_gone(session, id))
    thresholds = row.clinic_thresholds
    found = Replay(
        screening=id,
        model=f"{row.model_version} ({row.model_sha256})",
        decided_by=f"version {thresholds.version} of the clinic" if thresholds else "the model",
    )
    predictor = _predictor_of(session, settings, row, found)
    content = storage.get(image_key(id))
    if content is None:
        found.faults.append(
            "The stored image is missing: it was removed, or the storage is another one. Restore "
            "it from a backup."
        )
    if predictor is None or content is None:
        return found
    prediction = _predicted_again(predictor, content, row, found)
    if prediction is not None:
        _compare(prediction, row, found, tolerance)
    return found


def _why_gone(session: Session, id: uuid.UUID) -> str:
    deleted = select(AuditEvent.at).where(
        AuditEvent.subject == str(id), AuditEvent.action == "screening.deleted"
    )
    if at := session.scalar(deleted):
        return f"Screening {id} was deleted on {at:%Y-%m-%d}, with its image and its prediction."
    return f"There is no screening {id}. Copy its id from the page or from the API."


def _predictor_of(
    session: Session, settings: Settings, row: Screening, found: Replay
) -> Predictor | None:
    """The classifier that answered; None where it is not here, with the reason as a fault."""
    folders: list[Path] = [
        folder
        for folder in (settings.bundle, PRETRAINED)
        if carded_sha256(folder) == row.model_sha256
    ]
    model = find_model(session, row.model_sha256)
    if model.folder is not None:
        folders.insert(0, model_folder(settings, model))
    reason = "its files are not here. Register its bundle with xray model register"
    for folder in folders:
        try:
            predictor = Predictor.load(folder)
        except (BundleError, AppError) as problem:
            reason = str(problem)
            continue
        if predictor.card.sha256 == row.model_sha256:
            return predictor
        reason = f"{folder} holds another classifier ({predictor.card.sha256})"
    found.faults.append(f"The classifier {found.model} cannot be used: {reason.rstrip('.')}.")
    return None


def _predicted_again(
    predictor: Predictor, content: bytes, row: Screening, found: Replay
) -> Prediction | None:
    size = predictor.card.input_size
    try:
        # As `app.screenings.decoder_process` reads it.
        image = read_image(content, shortest=max(2 * size, THUMBNAIL_SIDE))
    except UnreadableImage as problem:
        found.faults.append(f"The stored image cannot be read: {problem}.")
        return None
    square = standardise(image.pixels, size)
    if row.input_sha256 is not None:
        found.same_input = hashlib.sha256(square.tobytes()).hexdigest() == row.input_sha256
    if found.same_input is False:
        found.notes.append(
            f"The classifier was given other pixels: {row.image_format}, {row.image_bits} bits, is "
            "stored as an 8-bit picture, or the preprocessing has changed."
        )
    elif found.same_input is None:
        found.notes.append("The pixels given to the classifier were not recorded at the time.")
    if row.input_sha256 is not None:
        # What is stored was turned upright before.
        prediction = predictor.predict(square)
    else:
        prediction, _ = predict_upright(predictor, OrientationCheck.load(), square)
    if row.clinic_thresholds is not None:
        own = row.clinic_thresholds.applied_to(predictor.card.thresholds)
        prediction = decided_by(prediction, own)
    return prediction


def _compare(prediction: Prediction, row: Screening, found: Replay, tolerance: float) -> None:
    if prediction.probabilities.keys() != row.probabilities.keys():
        found.faults.append("The classes are others than the recorded ones.")
        return
    found.largest_difference = max(
        abs(value - row.probabilities[label]) for label, value in prediction.probabilities.items()
    )
    if not found.largest_difference <= tolerance:
        found.faults.append(
            f"A probability differs by {found.largest_difference:.2g}, more than {tolerance:g}."
        )
    gap = abs(prediction.ood_score - row.ood_score)
    if not gap <= max(tolerance, TOLERANCE) * (1 + abs(row.ood_score)):
        found.faults.append(f"The out-of-distribution score differs by {gap:.2g}.")
    for name, before, after in (
        ("most likely class", row.label, prediction.label),
        ("decision", row.decision, prediction.decision),
        ("reason", row.reason, prediction.reason),
    ):
        if before != after:
            found.faults.append(f"The {name} was {before}, and is {after} now.")
