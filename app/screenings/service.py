"""Screening an image: decode it, predict, store the image, record the prediction."""

import hashlib
import logging
import os
import threading
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import BinaryIO

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from app.accounts.owner import Owner
from app.core.audit import AuditEvent
from app.core.database import Database, now
from app.core.disk_full import is_disk_full
from app.core.errors import (
    Busy,
    Conflict,
    ImageRefused,
    NotAnImage,
    NotFound,
    UploadTooLarge,
)
from app.core.metrics import DECODE_SECONDS, DECODER_QUEUE, INFERENCE_SECONDS, SCREENINGS
from app.core.storage import Storage
from app.core.timing import Stopwatch
from app.registry.serving import ActiveClassifier, VersionRegister
from app.screenings.decoder import DecoderUnavailable, ImageDecoder
from app.screenings.decoder_protocol import DecodedImage
from app.screenings.queries import delete_rows, owned_ids
from app.screenings.quota import StorageQuota
from app.screenings.stored_images import image_key, thumbnail_key
from app.screenings.tables import Screening
from app.validation.service import thresholds_in_use
from app.validation.tables import ClinicThresholds
from ml.classifier.predictor import Prediction, Predictor, decided_by
from ml.imaging.corrections import UPRIGHT, Orientation
from ml.imaging.heatmap import pack_map
from ml.imaging.heatmap_check import HeatMapCheck
from ml.imaging.orientation import OrientationCheck
from ml.imaging.types import UnreadableImage
from ml.texts import msg


@dataclass(frozen=True, slots=True)
class SentLabels:
    """What a sender calls an image and the request that brings it.

    Attributes:
        reference: the sender's own name of the image, to find it again; None: none.
        idempotency_key: of the request of a clinic; None: every request is a new one.
    """

    reference: str | None = None
    idempotency_key: str | None = None


UNLABELLED = SentLabels()
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ScreeningService:
    """Screens images, with limits on bytes in memory and seconds per image.

    Attributes:
        database: of screenings.
        storage: of images.
        decoder: the pool of decoder processes.
        classifier: serves the active model version.
        decoder_workers: images decoded at once.
        wait_s: seconds that an image waits for a decoder.
        quota: how much may be stored.
    """

    database: Database
    storage: Storage
    decoder: ImageDecoder
    classifier: ActiveClassifier
    decoder_workers: int
    wait_s: float
    quota: StorageQuota
    _reading: threading.BoundedSemaphore = field(init=False)
    _predicting: threading.BoundedSemaphore = field(init=False)
    _in_progress: int = field(init=False, default=0)
    _counting: threading.Lock = field(init=False, default_factory=threading.Lock)
    _versions: VersionRegister = field(init=False)
    _orientation: OrientationCheck = field(init=False)
    _heat_maps: HeatMapCheck = field(init=False)

    def __post_init__(self) -> None:
        # Only the images that are being decoded, and one waiting, are held in memory.
        self._reading = threading.BoundedSemaphore(self.decoder_workers + 1)
        # More predictions than cores would take turns, and each would take longer.
        self._predicting = threading.BoundedSemaphore(os.cpu_count() or 1)
        self._versions = VersionRegister(self.database)
        self._orientation = OrientationCheck.load()
        self._heat_maps = HeatMapCheck.load()

    def screen(
        self,
        upload: BinaryIO,
        owner: Owner,
        labels: SentLabels = UNLABELLED,
        *,
        visitor_address: str | None = None,
    ) -> Screening:
        """Screen one image; the prediction is committed when this returns.

        Args:
            upload: the image's file.
            owner: whose screening it becomes.
            labels: the sender's reference and idempotency key. A request whose key is known gets
                the screening that is there.
            visitor_address: whose quota the image counts to; None for clinics and users.

        Raises:
            Conflict: the idempotency key was sent with another image before.
            AppError: the image was refused, or the server is busy or not ready; neither row nor
                file remains.
        """
        if earlier := self._earlier(upload, owner, labels.idempotency_key):
            return earlier
        with self._counting:
            self._in_progress += 1
        try:
            return self._screen(upload, owner, labels, visitor_address)
        except IntegrityError:
            # The same request came twice at the same moment, and the other one was faster.
            upload.seek(0)
            if earlier := self._earlier(upload, owner, labels.idempotency_key):
                return earlier
            raise
        finally:
            with self._counting:
                self._in_progress -= 1

    def _earlier(self, upload: BinaryIO, owner: Owner, key: str | None) -> Screening | None:
        """The screening of an earlier request with the same key; None where there is none."""
        if key is None or owner.clinic_id is None:
            return None
        query = select(Screening).where(
            Screening.clinic_id == owner.clinic_id, Screening.idempotency_key == key
        )
        with self.database.sessions() as session:
            found = session.scalar(query)
        if found is None:
            return None
        digest = hashlib.file_digest(upload, "sha256").hexdigest()  # type: ignore[arg-type]
        if digest != found.image_sha256:
            raise Conflict(
                msg(
                    "This idempotency key was sent with another image before. Use a new key for "
                    "each image."
                )
            )
        return found

    def _screen(
        self, upload: BinaryIO, owner: Owner, labels: SentLabels, visitor_address: str | None
    ) -> Screening:
        self._require_room(owner, visitor_address)
        watch = Stopwatch()
        predictor = self.classifier.get()
        self._versions.keep(predictor.card)
        watch.lap("wait")
        # The image stays with this predictor, even when another version is activated meanwhile.
        with DECODE_SECONDS.time():
            decoded, image_sha256 = self._decode(upload, predictor.card.input_size)
        watch.lap("decode")
        in_use = self._clinic_thresholds(owner, predictor)
        with self._predicting:
            found = self._orientation.find(decoded.model_input)
        if not found.upright:
            # Decoded again, so that what is predicted, shown and learned from is the same image.
            decoded, _ = self._decode(upload, predictor.card.input_size, found)
        prediction, shares = self._predict(decoded, predictor)
        if in_use:
            prediction = decided_by(prediction, in_use.applied_to(predictor.card.thresholds))
        watch.lap("predict")
        screening = _row(decoded, image_sha256, prediction, predictor, owner)
        screening.clinic_thresholds = in_use
        screening.heatmap_shares = shares
        screening.image_metadata = decoded.metadata
        screening.warnings = [warning.as_json() for warning in (*decoded.warnings, *found.warnings)]
        screening.reference = labels.reference
        screening.idempotency_key = labels.idempotency_key
        screening.is_trial = self.classifier.is_trial(screening.model_sha256)
        screening.stored_bytes = len(decoded.display) + len(decoded.thumbnail)
        if visitor_address:
            self.quota.count(visitor_address, screening.stored_bytes)
        self._store(screening, decoded)
        watch.lap("store")
        screening.timings = watch.laps
        try:
            self._record(screening, owner)
        except BaseException:
            self._delete_files(screening.id)
            raise
        SCREENINGS.labels(screening.decision, screening.reason or "").inc()
        return screening

    def _predict(
        self, decoded: DecodedImage, predictor: Predictor
    ) -> tuple[Prediction, dict[str, float | None]]:
        """The prediction, and the share of each class's evidence that lies on the lungs."""
        with INFERENCE_SECONDS.time(), self._predicting:
            prediction = predictor.predict(decoded.model_input, alone=self._in_progress == 1)
            shares = self._heat_maps.shares(
                decoded.model_input, prediction.activation_map, predictor.card.labels
            )
        return prediction, shares

    def _require_room(self, owner: Owner, visitor_address: str | None) -> None:
        self.quota.require_room(self.storage, visitor_address)
        if visitor_address and owner.visitor_id:
            with self.database.sessions() as session:
                self.quota.require_visitors_room(session, owner.visitor_id)

    def _clinic_thresholds(self, owner: Owner, predictor: Predictor) -> ClinicThresholds | None:
        """The thresholds of the owner for this classifier; None: those of the classifier."""
        if owner.clinic_id is None:
            return None
        with self.database.sessions() as session:
            found = thresholds_in_use(session, owner.clinic_id, predictor.card.sha256)
            if found:
                session.expunge(found)
        return found

    def delete(self, session: Session, screening: Screening, owner: Owner) -> None:
        """Delete a screening and its image; the audit log keeps an entry.

        Raises:
            NotFound: it has been deleted meanwhile.
        """
        if not self.delete_all(session, [screening.id], owner):
            raise NotFound(msg("This screening has already been deleted."))

    def delete_all(self, session: Session, ids: Collection[uuid.UUID], owner: Owner) -> int:
        """Delete screenings of an owner and their images; the audit log keeps an entry for each.

        Args:
            session: the rows are deleted and committed in one transaction.
            ids: of at most a few hundred screenings; those that are not this owner's stay.
            owner: whose.

        Returns:
            How many were deleted; the others are not there any more.
        """
        try:
            deleted = delete_rows(session, ids, owner)
        except OperationalError as problem:
            if not is_disk_full(problem):
                raise
            # The images go first: without the room that they take no row could be deleted.
            session.rollback()
            for one in owned_ids(session, ids, owner):
                self._delete_files(one)
            deleted = delete_rows(session, ids, owner)
        for one in deleted:
            try:
                self._delete_files(one)
            except Exception:
                # The row is gone, so the image cannot be reached; the hourly clean-up deletes it.
                logger.exception("the image of a deleted screening is left for the clean-up")
        return len(deleted)

    def _decode(
        self, upload: BinaryIO, size: int, correction: Orientation = UPRIGHT
    ) -> tuple[DecodedImage, str]:
        with DECODER_QUEUE.track_inprogress():
            has_place = self._reading.acquire(timeout=self.wait_s)
        if not has_place:
            raise Busy(msg("The image decoder is busy. Try again in a few seconds."))
        try:
            upload.seek(0)
            content = upload.read()
            decoded = self.decoder.decode(content, size, correction)
            return decoded, hashlib.sha256(content).hexdigest()
        except UnreadableImage as problem:
            raise refusal(problem) from problem
        except DecoderUnavailable as problem:
            raise Busy(msg("The image decoder is not available. Try again.")) from problem
        finally:
            self._reading.release()

    def _store(self, screening: Screening, decoded: DecodedImage) -> None:
        try:
            self.storage.put(image_key(screening.id), decoded.display)
            self.storage.put(thumbnail_key(screening.id), decoded.thumbnail)
        except BaseException:
            self._delete_files(screening.id)
            raise

    def _record(self, screening: Screening, owner: Owner) -> None:
        with self.database.session() as session:
            session.add(screening)
            session.add(
                AuditEvent(
                    actor=owner.actor,
                    action="screening.created",
                    subject=str(screening.id),
                    # It outlives the screening, so it holds nothing of the image or prediction.
                    detail={"model": screening.model_sha256},
                )
            )

    def _delete_files(self, screening_id: uuid.UUID) -> None:
        self.storage.delete(image_key(screening_id))
        self.storage.delete(thumbnail_key(screening_id))


def refusal(problem: UnreadableImage) -> ImageRefused | UploadTooLarge:
    """The HTTP error for an image that cannot be read."""
    match problem.code:
        case "not-an-image" | "empty":
            return NotAnImage(problem.message, code=problem.code)
        case "too-large":
            return UploadTooLarge(problem.message, code=problem.code)
    return ImageRefused(problem.message, code=problem.code)


def _row(
    decoded: DecodedImage,
    image_sha256: str,
    prediction: Prediction,
    predictor: Predictor,
    owner: Owner,
) -> Screening:
    return Screening(
        id=uuid.uuid4(),
        created_at=now(),
        visitor_id=owner.visitor_id,
        clinic_id=owner.clinic_id,
        image_sha256=image_sha256,
        image_type=decoded.display_type,
        image_format=decoded.format,
        image_width=decoded.width,
        image_height=decoded.height,
        image_bits=decoded.bits,
        input_sha256=hashlib.sha256(decoded.model_input.tobytes()).hexdigest(),
        model_sha256=predictor.card.sha256,
        model_version=predictor.card.version,
        label=prediction.label,
        decision=prediction.decision,
        reason=prediction.reason,
        probabilities=prediction.probabilities,
        confidence=prediction.probabilities[prediction.label],
        ood_score=prediction.ood_score,
        activation_map=pack_map(prediction.activation_map),
    )
