"""The classifier active: every web process follows the registry, and swaps under load."""

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError

from app.core.audit import AuditEvent
from app.core.database import Database
from app.core.disk_full import is_disk_full
from app.core.errors import AppError, NotReady
from app.registry.files import model_folder
from app.registry.queries import active_sha256, find_model
from app.registry.registration import register_released
from app.registry.tables import ModelVersion
from app.registry.trial import learned_from_demonstration, trial_reasons
from app.settings import Settings
from ml.classifier.card import ModelCard
from ml.classifier.predictor import Predictor
from ml.errors import BundleError, XrayError
from ml.model_check import load_classifier
from ml.texts import msg

logger = logging.getLogger(__name__)
# Within this time after an activation every process answers with the new classifier.
LOOK_EVERY_S = 2.0
# A classifier that could not be loaded is tried again, in case its folder was only late.
_TRY_AGAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class LoadFault:
    """A classifier that is to be active and could not be loaded by this process."""

    sha256: str | None  # None: that of the configured bundle
    reason: str
    try_again_at: float  # by the monotonic clock


class ActiveClassifier:
    """Holds the active predictor: the last one activated, or else the configured bundle's.

    Loading takes a moment, so pages are served meanwhile; a caller that needs the predictor waits.
    A new one is loaded beside the old one, classifies an image, and only then takes its place.
    Requests in progress end with the one that they began with. One that cannot be
    loaded changes nothing.
    """

    def __init__(self, settings: Settings, database: Database):
        self._settings = settings
        self._database = database
        self._predictor: Predictor | None = None
        self._fault: LoadFault | None = None
        self._trials: set[str] = set()  # SHA-256 of loaded classifiers for trial mode only
        self._sees_database = True
        self._looked = threading.Event()
        self._turn = threading.Lock()
        self._closing = threading.Event()
        self._follower = threading.Thread(
            target=self._keep_following, name="follow-registry", daemon=True
        )

    def start(self) -> None:
        """Load the classifier in the background, and follow the registry from then on."""
        self._follower.start()

    def close(self) -> None:
        """Follow no longer."""
        self._closing.set()
        self._follower.join()

    def _keep_following(self) -> None:
        self.follow()
        self._register_released()
        while not self._closing.wait(LOOK_EVERY_S):
            self.follow(again=False)

    def follow(self, *, again: bool = True) -> None:
        """Look which classifier is to answer, and load it unless it is the present one.

        Whatever goes wrong goes to the log; the present one, if there is one, stays.

        Args:
            again: try at once what could not be loaded a moment ago.
        """
        with self._turn:
            try:
                self._look(again)
            except Exception as problem:
                # The database may be away for a while; what was active is so still.
                if self._sees_database:
                    logger.warning("which classifier is active cannot be asked: %s", problem)
                self._sees_database = False
            self._looked.set()

    def _look(self, again: bool) -> None:
        with self._database.sessions() as session:
            wanted = active_sha256(session)
        self._sees_database = True
        if self._predictor and wanted in (None, self._predictor.card.sha256):
            self._fault = None
            return
        failed = self._fault if self._fault and self._fault.sha256 == wanted else None
        if failed and not again and time.monotonic() < failed.try_again_at:
            return
        try:
            self._swap(self._load(wanted))
        except Exception as problem:
            reason = str(problem) if isinstance(problem, XrayError | AppError) else repr(problem)
            self._fault = LoadFault(wanted, reason, time.monotonic() + _TRY_AGAIN_S)
            if failed is None:
                logger.exception("the classifier %s cannot be loaded", wanted or "of the bundle")
                self._tell(wanted, reason)

    def _load(self, sha256: str | None) -> Predictor:
        if sha256 is None:
            predictor = load_classifier(self._settings.bundle)
            if learned_from_demonstration(predictor.card):
                self._keep_to_trial_mode(
                    predictor.card.sha256,
                    [msg("It was trained on synthetic images of the demonstration set.")],
                )
            return predictor
        with self._database.sessions() as session:
            model = find_model(session, sha256)
            folder = model_folder(self._settings, model)
            self._keep_to_trial_mode(sha256, trial_reasons(session, model))
        predictor = load_classifier(folder)
        if predictor.card.sha256 != sha256:
            raise BundleError(f"{folder} holds another classifier")
        return predictor

    def _keep_to_trial_mode(self, sha256: str, reasons: list[str]) -> None:
        """Refuse a classifier that may serve in trial mode only, or remember it as one."""
        if reasons and not self._settings.trial_mode:
            raise BundleError(
                msg(
                    "%(reasons)s Such a classifier serves in trial mode only. Activate another "
                    "one, or set XRAY_TRIAL_MODE=true on a server that nobody relies on.",
                    reasons=" ".join(reasons),
                )
            )
        if reasons:
            self._trials.add(sha256)

    def is_trial(self, sha256: str) -> bool:
        """Whether a classifier that this process has loaded may serve in trial mode only."""
        return sha256 in self._trials

    def _swap(self, predictor: Predictor) -> None:
        # One assignment: a request has either the old one or the new one, whole.
        self._predictor, self._fault = predictor, None
        logger.info("classifier %s is active", predictor.card.sha256)

    def _tell(self, sha256: str | None, reason: str) -> None:
        """Let every process's console know what one of them cannot load."""
        if sha256 is None:
            return
        with self._database.session() as session:
            detail = {"reason": reason}
            session.add(
                AuditEvent(actor="server", action="model.not-loaded", subject=sha256, detail=detail)
            )

    def _register_released(self) -> None:
        try:
            register_released(self._database, self._settings)
        except Exception as problem:
            # Images are still answered; the next start tries again.
            if is_disk_full(problem):
                logger.warning("the released models are not registered: the disk is full")
            else:
                logger.exception("the released models cannot be registered")

    def get(self, timeout_s: float = 10.0) -> Predictor:
        """The predictor, waiting for it while it loads.

        Raises:
            NotReady: it is still loading, cannot be used, or nobody knows which one it is.
        """
        if not self._looked.wait(timeout_s):
            raise NotReady(msg("The classifier is still loading. Try again in a moment."))
        if self._predictor is not None:
            return self._predictor
        if not self._sees_database:
            raise NotReady(
                msg("The database is not available. Try again in a moment."), retry_after_s=5
            )
        raise NotReady(
            msg("The classifier cannot be used. The operator can find the reason in the log."),
            retry_after_s=60,
        )

    @property
    def card(self) -> ModelCard | None:
        """The card of the active classifier; None where there is none."""
        try:
            return self.get().card
        except NotReady:
            return None

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of the active classifier; none while it loads."""
        return tuple(self.card.labels) if self.card else ()

    @property
    def fault(self) -> LoadFault | None:
        """The classifier that this process should answer with and cannot load, if any."""
        return self._fault


class VersionRegister:
    """Keeps the card of every classifier that answers, so that old answers can be explained."""

    def __init__(self, database: Database):
        self._database = database
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def keep(self, card: ModelCard) -> None:
        """Write the card's row unless it is there; after the first time this costs nothing."""
        if card.sha256 in self._known:
            return
        with self._lock:
            # Another process may write the same row at the same moment: its row is as good.
            with suppress(IntegrityError), self._database.session() as session:
                if session.get(ModelVersion, card.sha256) is None:
                    session.add(
                        ModelVersion(sha256=card.sha256, version=card.version, card=card.as_json())
                    )
            self._known.add(card.sha256)
