"""The way of an image: bytes are decoded, answered, stored, recorded; then the answer is sent."""

import hashlib
import logging
import os
import threading
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import BinaryIO

from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from app.accounts.owner import Owner
from app.core.audit import AuditEvent
from app.core.database import Database, now
from app.core.errors import Busy, ImageRefused, NotAnImage, NotFound, StorageFull, UploadTooLarge
from app.core.storage import Storage
from app.registry.serving import ActiveClassifier, VersionRegister
from app.screenings.decoder import DecodedImage, DecoderUnavailable, ImageDecoder
from app.screenings.tables import Screening
from ml.classifier.predictor import Prediction, Predictor
from ml.imaging.heatmap import pack_map
from ml.imaging.types import UnreadableImage

logger = logging.getLogger(__name__)
# Stored keys never change: this is the prefix of version 0.1.0.
STORED_IMAGES = "films"


class Stopwatch:
    """Milliseconds of consecutive steps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """End a step."""
        moment = time.perf_counter()
        self.laps[name] = round((moment - self._last) * 1000, 2)
        self._last = moment


def image_key(screening_id: uuid.UUID) -> str:
    """Where the image of a screening is stored."""
    return f"{STORED_IMAGES}/{screening_id}/film"


def thumbnail_key(screening_id: uuid.UUID) -> str:
    """Where the small picture for lists is stored."""
    return f"{STORED_IMAGES}/{screening_id}/thumbnail"


@dataclass(slots=True)
class Screener:
    """Answers images. Bounded everywhere: images at once, bytes in memory, seconds per image."""

    database: Database
    storage: Storage
    decoder: ImageDecoder
    classifier: ActiveClassifier
    decoder_workers: int
    max_in_flight: int
    wait_s: float
    min_free_bytes: int
    _reading: threading.BoundedSemaphore = field(init=False)
    _admission: threading.BoundedSemaphore = field(init=False)
    _visitors: threading.BoundedSemaphore = field(init=False)
    _predicting: threading.BoundedSemaphore = field(init=False)
    _versions: VersionRegister = field(init=False)

    def __post_init__(self) -> None:
        # Only images that are being decoded, and one waiting, are held in memory.
        self._reading = threading.BoundedSemaphore(self.decoder_workers + 1)
        self._admission = threading.BoundedSemaphore(self.max_in_flight)
        # Whatever visitors do, a quarter of the places is left to clinics.
        self._visitors = threading.BoundedSemaphore(max(1, self.max_in_flight * 3 // 4))
        # More at once than cores would only take turns, and every one of them would wait longer.
        self._predicting = threading.BoundedSemaphore(os.cpu_count() or 1)
        self._versions = VersionRegister(self.database)

    def screen(self, upload: BinaryIO, owner: Owner) -> Screening:
        """Answer one image; the answer is committed when this returns.

        Raises:
            AppError: the image was refused or the server is busy or not ready; no row and no file
                is left.
        """
        with ExitStack() as places:
            for place in (self._admission, *(() if owner.clinic_id else (self._visitors,))):
                if not place.acquire(blocking=False):
                    raise Busy("too many images are being answered: try again in a second")
                places.callback(place.release)
            return self._answer(upload, owner)

    def _answer(self, upload: BinaryIO, owner: Owner) -> Screening:
        if self.storage.free_bytes() < self.min_free_bytes:
            raise StorageFull("there is too little room to keep another image: tell the operator")
        watch = Stopwatch()
        predictor = self.classifier.get()
        self._versions.keep(predictor.card)
        watch.lap("wait")
        # Whatever is activated meanwhile, this image is answered by this predictor.
        decoded, image_sha256 = self._decode(upload, predictor.card.input_size)
        watch.lap("decode")
        with self._predicting:
            prediction = predictor.predict(decoded.model_input)
        watch.lap("predict")
        screening = _row(decoded, image_sha256, prediction, predictor, owner)
        self._store(screening, decoded)
        watch.lap("store")
        screening.timings = watch.laps
        try:
            self._record(screening, owner)
        except BaseException:
            self._forget_files(screening.id)
            raise
        return screening

    def delete(self, session: Session, screening: Screening, owner: Owner) -> None:
        """Remove a screening and its image; the audit log keeps that there was one."""
        session.add(
            AuditEvent(actor=owner.actor, action="screening.deleted", subject=str(screening.id))
        )
        session.delete(screening)
        try:
            session.commit()
        except StaleDataError as problem:
            raise NotFound("the screening was deleted already") from problem
        try:
            self._forget_files(screening.id)
        except Exception:
            # The answer is gone, and nobody can reach the image any more: the sweep removes it.
            logger.exception("the image of a deleted screening is left for the sweep")

    def _decode(self, upload: BinaryIO, size: int) -> tuple[DecodedImage, str]:
        if not self._reading.acquire(timeout=self.wait_s):
            raise Busy("no image can be decoded at the moment: try again in a few seconds")
        try:
            content = upload.read()
            return self.decoder.decode(content, size), hashlib.sha256(content).hexdigest()
        except UnreadableImage as problem:
            raise refusal(problem) from problem
        except DecoderUnavailable as problem:
            raise Busy("no image can be decoded at the moment: try again") from problem
        finally:
            self._reading.release()

    def _store(self, screening: Screening, decoded: DecodedImage) -> None:
        try:
            self.storage.put(image_key(screening.id), decoded.display)
            self.storage.put(thumbnail_key(screening.id), decoded.thumbnail)
        except BaseException:
            self._forget_files(screening.id)
            raise

    def _record(self, screening: Screening, owner: Owner) -> None:
        with self.database.session() as session:
            session.add(screening)
            session.add(
                AuditEvent(
                    actor=owner.actor,
                    action="screening.created",
                    subject=str(screening.id),
                    # It outlives the screening, so it holds nothing of the image or the answer.
                    detail={"model": screening.model_sha256},
                )
            )

    def _forget_files(self, screening_id: uuid.UUID) -> None:
        self.storage.delete(image_key(screening_id))
        self.storage.delete(thumbnail_key(screening_id))


def refusal(problem: UnreadableImage) -> ImageRefused | UploadTooLarge:
    """The answer to an image that cannot be read."""
    match problem.code:
        case "not-an-image" | "empty":
            return NotAnImage(str(problem), code=problem.code)
        case "too-large":
            return UploadTooLarge(str(problem), code=problem.code)
    return ImageRefused(str(problem), code=problem.code)


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
        image_metadata=dict(decoded.metadata),
        model_sha256=predictor.card.sha256,
        model_version=predictor.card.version,
        label=prediction.label,
        decision=prediction.decision,
        reason=prediction.reason,
        probabilities=prediction.probabilities,
        ood_score=prediction.ood_score,
        activation_map=pack_map(prediction.activation_map),
    )


def share(screening: Screening, token: str, days: int) -> None:
    """Let whoever has the token see the screening for some days."""
    screening.share_token = token
    screening.shared_until = now() + timedelta(days=days)


def unshare(screening: Screening) -> None:
    """Make the link dead at once."""
    screening.share_token = None
    screening.shared_until = None
