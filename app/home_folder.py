"""The paths below the home folder."""

import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HomeFolder:
    """Every path below the home folder; nothing else joins names to `settings.home`.

    Attributes:
        root: the home folder, absolute and without links.
    """

    root: Path

    @property
    def database(self) -> Path:
        """The embedded SQLite database."""
        return self.root / "xray.db"

    @property
    def secret_key(self) -> Path:
        """The generated secret, where no secret is configured."""
        return self.root / "secret.key"

    @property
    def artefacts(self) -> Path:
        """Uploaded images, where no other storage is configured."""
        return self.root / "artefacts"

    @property
    def runs(self) -> Path:
        """One folder per run."""
        return self.root / "runs"

    def run(self, id: uuid.UUID | str) -> Path:
        """The folder that a run's program writes to; it may not exist yet."""
        return self.runs / str(id)

    @property
    def models(self) -> Path:
        """One folder per registered model version."""
        return self.root / "models"

    def model(self, sha256: str) -> Path:
        """The files of the model version with this SHA-256."""
        return self.models / sha256

    @property
    def data_sets(self) -> Path:
        """One folder per data set version."""
        return self.root / "data"

    def data_set(self, sha256: str) -> Path:
        """The files of the data set version with this SHA-256."""
        return self.data_sets / sha256

    @property
    def staging(self) -> Path:
        """One folder per uploaded archive whose import has not finished."""
        return self.root / "staging"

    def upload(self, name: str) -> Path:
        """The folder of one uploaded archive."""
        return self.staging / name

    @property
    def workers(self) -> Path:
        """Heartbeat files of workers, one per machine."""
        return self.root / "workers"

    @property
    def devices(self) -> Path:
        """Lock files of GPUs."""
        return self.root / "devices"

    @property
    def broker(self) -> Path:
        """Messages of the embedded broker."""
        return self.root / "broker"

    @property
    def worker_log(self) -> Path:
        """Output of the worker that the embedded server starts."""
        return self.root / "worker.log"

    @property
    def cache(self) -> Path:
        """Embeddings of real images, reused by later runs."""
        return self.root / "cache"

    def relative(self, path: Path) -> str:
        """A path as the database stores it: relative to the home folder, with slashes."""
        return path.relative_to(self.root).as_posix()

    def resolve(self, relative: str) -> Path:
        """The path of a relative one from the database."""
        return self.root / relative

    def overlaps(self, folder: Path) -> bool:
        """Whether a folder lies in the home folder or contains it."""
        found = folder.resolve()
        return found.is_relative_to(self.root) or self.root.is_relative_to(found)
