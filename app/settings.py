"""Settings from the environment (`XRAY_*`) or a `.env` file; unsafe ones refuse to start."""

import os
import secrets
import uuid
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ml.classifier.bundle import PRETRAINED

_SHORTEST_SECRET = 32
# "changeme" repeated is long and still no secret.
_LEAST_DIFFERENT = 10


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


class Environment(StrEnum):
    """How the application is run."""

    EMBEDDED = "embedded"  # one machine, no sign-up, nothing else to install
    PRODUCTION = "production"  # behind TLS, several processes, secrets from outside


class Settings(BaseSettings):
    """Everything that can be configured; every field is `XRAY_<NAME>` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="XRAY_", env_file=".env", env_ignore_empty=True, extra="ignore"
    )

    environment: Environment = Field(
        Environment.EMBEDDED,
        description="embedded: one machine, everything local; production: refuses unsafe settings.",
    )
    home: Path = Field(
        Path("var"), description="Folder of the embedded database, artefacts and secret key."
    )
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the home folder.")
    storage_url: str = Field(
        "", description="file:///folder or s3://bucket/prefix; empty: a folder in the home folder."
    )
    broker_url: str = Field(
        "",
        description="Where workers hear of new runs, redis://host:6379/0; empty: folders in the"
        " home folder.",
    )
    secret_key: SecretStr = Field(
        SecretStr(""),
        description="Signs visitor cookies; empty: made on first start and kept in the home folder."
        " Production requires it.",
    )
    public_url: str = Field(
        "", description="Address that visitors use, for shared links; empty: the request's own."
    )
    allowed_hosts: list[str] = Field(
        ["*"], description='Host names answered, as JSON. Production requires names, not "*".'
    )
    bundle: Path = Field(
        PRETRAINED,
        description="Folder of the classifier bundle that answers until another is activated.",
    )
    max_upload_mb: int = Field(32, ge=1, le=512, description="Largest image accepted, in MB.")
    max_archive_mb: int = Field(
        2048, ge=1, le=1_000_000, description="Largest archive of images accepted, in MB."
    )
    max_images_per_form: int = Field(
        8, ge=1, le=100, description="Most images in one form without JavaScript."
    )
    max_forms_read: int = Field(
        64, ge=1, le=1000, description="Uploads received at once; further ones get 503."
    )
    upload_timeout_s: float = Field(
        120.0, gt=0, le=3600, description="Seconds in which an upload has to arrive."
    )
    min_free_mb: int = Field(
        500, ge=0, description="Room on the disk below which no image is taken, in MB."
    )
    max_in_flight: int = Field(
        32,
        ge=1,
        le=36,
        description="Images answered at once; further ones get 503 with Retry-After.",
    )
    decoder_workers: int = Field(
        default_factory=lambda: max(2, min(8, os.cpu_count() or 2)),
        ge=1,
        le=64,
        description="Child processes that decode images.",
    )
    decode_timeout_s: float = Field(
        15.0, gt=0, le=120, description="Seconds after which decoding one image is given up."
    )
    share_days: int = Field(7, ge=1, le=365, description="Days that a shared link lives.")

    @model_validator(mode="after")
    def _refuse_unsafe(self) -> Self:
        if self.environment is not Environment.PRODUCTION:
            return self
        faults = []
        if len(self.secret_key.get_secret_value()) < 32:
            faults.append("XRAY_SECRET_KEY needs at least 32 characters (openssl rand -hex 32)")
        if "*" in self.allowed_hosts:
            faults.append("XRAY_ALLOWED_HOSTS needs the host names served, as in '[\"xray.org\"]'")
        if not self.public_url.startswith("https://"):
            faults.append("XRAY_PUBLIC_URL needs the https:// address that visitors use")
        if faults:
            raise ValueError("not safe for production: " + "; ".join(faults))
        return self

    @property
    def home_folder(self) -> HomeFolder:
        """The paths in the home folder."""
        return HomeFolder(self.home.resolve())

    @property
    def max_upload_bytes(self) -> int:
        """Largest image accepted, in bytes."""
        return self.max_upload_mb * 1_000_000

    @property
    def max_archive_bytes(self) -> int:
        """Largest archive of images accepted, in bytes."""
        return self.max_archive_mb * 1_000_000

    @property
    def secure_cookies(self) -> bool:
        """Whether cookies travel over TLS only."""
        return self.public_url.startswith("https://")

    @property
    def answered_hosts(self) -> list[str]:
        """The allowed hosts, and this machine itself, from where its health is probed."""
        return [*self.allowed_hosts, "127.0.0.1", "localhost", "[::1]"]

    @property
    def effective_database_url(self) -> str:
        """The configured database, or SQLite in the home folder."""
        return self.database_url or f"sqlite:///{self.home_folder.database}"

    @property
    def effective_storage_url(self) -> str:
        """The configured artefact storage, or a folder in the home folder."""
        return self.storage_url or self.home_folder.artefacts.as_uri()

    @cached_property
    def signing_key(self) -> str:
        """The configured secret, or the one made on first start and kept in the home folder."""
        configured = self.secret_key.get_secret_value()
        return configured or _kept_secret(self.home_folder.secret_key)


def _kept_secret(path: Path) -> str:
    """Read the secret, or make it; two processes that start at once agree on one.

    Raises:
        ValueError: the file is there but holds no secret.
    """
    if not path.exists():
        _private_folder(path.parent)
        made = path.with_name(f".{path.name}.{os.getpid()}")
        made.touch(mode=0o600)
        made.write_text(secrets.token_hex(32), encoding="ascii")
        # The complete file gets the name, unless another process was first.
        with suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
    found = path.read_text(encoding="ascii").strip()
    if len(found) < _SHORTEST_SECRET:
        raise ValueError(f"{path} holds no secret key: delete it, and a new one is made")
    return found


def _private_folder(path: Path) -> None:
    """Images, answers and the secret are nobody else's on this machine."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
