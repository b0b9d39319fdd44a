"""The classifier in service: loaded once in the background, named in every answer."""

import logging
import threading
from contextlib import suppress
from pathlib import Path

from sqlalchemy.exc import IntegrityError

from app.db import Database
from app.errors import NotReady
from app.models import ModelVersion
from ml.bundle import Card
from ml.errors import BundleError
from ml.predictor import Predictor

logger = logging.getLogger(__name__)

# Side in pixels to which uploaded films are standardised.
INPUT_SIZE = 224


class ActiveClassifier:
    """Holds the predictor of the bundle in service.

    Loading takes a moment, so pages are served meanwhile; whoever needs the predictor waits.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._loaded = threading.Event()
        self._predictor: Predictor | None = None

    def load(self) -> None:
        """Read and verify the bundle; what is wrong with it goes to the log."""
        try:
            predictor = Predictor.load(self._folder)
            if predictor.card.input_size != INPUT_SIZE:
                raise BundleError(
                    f"the bundle wants films of {predictor.card.input_size} px, films are decoded "
                    f"to {INPUT_SIZE} px"
                )
            self._predictor = predictor
        except Exception:
            # Whatever it was, waiting requests must learn that there is no classifier.
            logger.exception("the classifier cannot be loaded")
        finally:
            self._loaded.set()

    def load_in_background(self) -> None:
        """Start `load` without waiting for it."""
        threading.Thread(target=self.load, name="load-classifier", daemon=True).start()

    def get(self, timeout_s: float = 10.0) -> Predictor:
        """The predictor, waiting for it while it loads.

        Raises:
            NotReady: it is still loading, or the bundle cannot be used.
        """
        if not self._loaded.wait(timeout_s):
            raise NotReady("the classifier is still loading: try again in a moment")
        if self._predictor is None:
            raise NotReady(
                "the classifier cannot be used: its operator finds the reason in the log",
                retry_after_s=60,
            )
        return self._predictor

    @property
    def card(self) -> Card | None:
        """The card of the classifier in service; None where there is none."""
        try:
            return self.get().card
        except NotReady:
            return None


class VersionRegister:
    """Keeps the card of every classifier that answers, so that old answers can be explained."""

    def __init__(self, database: Database):
        self._database = database
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def keep(self, card: Card) -> None:
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
