"""Settings from the environment (`XRAY_*`) or a `.env` file; unsafe ones refuse to start."""

import os
from contextlib import suppress
from enum import StrEnum
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.home_folder import HomeFolder
from app.notification_settings import NotificationSettings
from app.root_path import RootPath, path_of
from app.secret_strength import secret_fault, stored_secret
from app.setting_files import SecretFiles
from ml.classifier.bundle import PRETRAINED

# Memory that one decoder may take for an image, on top of what it takes when idle.
DECODER_MEMORY = 1536 * 2**20
_CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")


def default_decoder_workers() -> int:
    """As many decoders as there are cores, 8 at most, and as fit in half of the memory."""
    affordable = _memory_bytes() // 2 // DECODER_MEMORY
    return max(1, min(8, max(2, os.cpu_count() or 2), affordable))


def default_turns() -> int:
    """Images screened at once: some are decoded, some classified, some stored."""
    return max(4, min(36, 3 * (os.cpu_count() or 1)))


def _memory_bytes() -> int:
    """Memory of this machine, or of the container."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        # "max" where there is no limit.
        memory = min(memory, int(_CONTAINER_MEMORY.read_text(encoding="ascii")))
    return memory


class LogLevel(StrEnum):
    """Severity of log records."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class LogFormat(StrEnum):
    """How log lines look."""

    JSON = "json"
    TEXT = "text"


class Environment(StrEnum):
    """How the application is run."""

    EMBEDDED = "embedded"  # one machine, no sign-up, nothing else to install
    PRODUCTION = "production"  # behind TLS, several processes, secrets from outside


class Settings(NotificationSettings):
    """Everything that can be configured; every field is `XRAY_<NAME>` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="XRAY_", env_file=".env", env_ignore_empty=True, extra="ignore"
    )

    environment: Environment = Field(
        Environment.EMBEDDED,
        description="embedded: everything on one machine; production: refuses unsafe settings.",
    )
    home: Path = Field(
        Path("var"),
        description="Folder of the embedded database, images, data sets, models, runs and secret"
        " key.",
    )
    database_url: str = Field("", description="SQLAlchemy URL. Default: SQLite in the home folder.")
    storage_url: str = Field(
        "",
        description="Where images are stored: file:///folder or s3://bucket/prefix. Default: a"
        " folder in the home folder.",
    )
    broker_url: str = Field(
        "",
        description="Broker that notifies workers of new runs, and shared storage of rate limits,"
        " such as redis://host:6379/0. Default: folders in the home folder, and memory.",
    )
    database_password: SecretStr = Field(
        SecretStr(""), description="Password of the database, where its URL has none."
    )
    broker_password: SecretStr = Field(
        SecretStr(""), description="Password of the broker, where its URL has none."
    )
    secret_key: SecretStr = Field(
        SecretStr(""),
        description="Signs visitor cookies. Default: created on the first start and stored in the"
        " home folder. Production requires it.",
    )
    public_url: str = Field(
        "", description="Address that visitors use, for shared links. Default: the request's own."
    )
    root_path: RootPath = Field(
        "",
        description="Path below which a proxy serves the application, such as /xray. Default: the"
        " path of XRAY_PUBLIC_URL.",
    )
    allowed_hosts: list[str] = Field(
        ["*"],
        description="Host names that are served, as a JSON list. Production requires names"
        ' instead of "*".',
    )
    trusted_proxies: list[str] = Field(
        ["127.0.0.1"],
        description="Addresses and networks of proxies, as a JSON list. Only their X-Forwarded-For"
        " and X-Forwarded-Proto are believed.",
    )
    bundle: Path = Field(
        PRETRAINED,
        description="Folder of the classifier bundle that is used until a model version is"
        " activated.",
    )
    trial_mode: bool = Field(
        False,
        description="Let classifiers serve that were trained on demonstration or unchecked images."
        " Every page has a banner, and every answer of the API a warning.",
    )
    max_upload_mb: int = Field(32, ge=1, le=512, description="Size limit of an image, in MB.")
    max_archive_mb: int = Field(
        2048, ge=1, le=1_000_000, description="Size limit of an archive of images, in MB."
    )
    max_images_per_form: int = Field(
        8, ge=1, le=100, description="Images accepted in one form without JavaScript."
    )
    max_forms_read: int = Field(
        128,
        ge=1,
        le=1000,
        description="Uploads in progress at once of API keys, as many of signed-in users and as"
        " many of visitors; more get status 503.",
    )
    max_forms_per_address: int = Field(
        16,
        ge=1,
        le=1000,
        description="Uploads in progress at once of one visitor's address, and of one user.",
    )
    min_upload_rate: int = Field(
        2000,
        ge=1,
        description="Bytes per second, on average over 10 s, below which an upload is ended with"
        " status 408.",
    )
    max_queue_s: float = Field(
        2.0,
        gt=0,
        le=20,
        description="Seconds that an image may wait for its turn; those that would wait longer get"
        " status 503 with Retry-After.",
    )
    key_requests_per_minute: int = Field(
        12_000, ge=1, description="API requests of one key in a minute; more get status 429."
    )
    user_uploads_per_minute: int = Field(
        600, ge=1, description="Uploads of one signed-in user in a minute; more get status 429."
    )
    visitor_uploads_per_minute: int = Field(
        120,
        ge=1,
        description="Uploads of visitors from one address in a minute; more get status 429.",
    )
    visitor_quota_mb: int = Field(
        1000,
        ge=1,
        description="Images stored of one visitor, and stored in a day from one visitor's address,"
        " in MB.",
    )
    visitor_days: int | None = Field(
        None,
        ge=0,
        le=3650,
        description="Days after which a visitor's screening is deleted with its image; 0 keeps"
        " them. Default: 90 in production, otherwise 0.",
    )
    clinic_reserve_mb: int = Field(
        2000,
        ge=0,
        description="Free disk space that visitors leave to clinics, beyond XRAY_MIN_FREE_MB, in"
        " MB.",
    )
    upload_timeout_s: float = Field(
        120.0, gt=0, le=3600, description="Seconds in which an upload has to arrive."
    )
    min_free_mb: int = Field(
        500, ge=0, description="Free disk space below which images are refused, in MB."
    )
    trash_days: int = Field(
        7,
        ge=0,
        le=365,
        description="Days that a stored image without a screening stays in the trash.",
    )
    max_in_flight: int = Field(
        default_factory=default_turns,
        ge=1,
        le=36,
        description="Images screened at once; further ones wait for their turn. Default: three for"
        " each core, 4 at least and 36 at most.",
    )
    decoder_workers: int = Field(
        default_factory=default_decoder_workers,
        ge=1,
        le=64,
        description="Child processes that decode images. Default: as many as there are cores, 8 at"
        " most, and as fit in half of the memory.",
    )
    decode_timeout_s: float = Field(
        15.0, gt=0, le=120, description="Seconds after which decoding an image is aborted."
    )
    session_hours: float = Field(
        12.0, gt=0, le=720, description="Hours after which a user has to sign in again."
    )
    session_idle_minutes: float = Field(
        60.0,
        gt=0,
        le=43_200,
        description="Minutes without a request after which a user has to sign in again.",
    )
    share_days: int = Field(7, ge=1, le=365, description="Days that a shared link is valid.")
    metrics_token: SecretStr = Field(
        SecretStr(""),
        description="Token that /metrics requires as Authorization: Bearer. Default: /metrics is"
        " served to callers on this machine only.",
    )
    short_run_memory_mb: int = Field(
        2000,
        ge=0,
        description="Memory that has to be available for a short run to start beside a long one,"
        " in MB.",
    )
    log_level: LogLevel = Field(
        LogLevel.INFO, description="Least severe level that is logged: DEBUG, INFO, WARNING, ERROR."
    )
    log_format: LogFormat | None = Field(
        None, description="json or text. Default: json in production, otherwise text."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read secrets from files as well."""
        files = SecretFiles(settings_cls, env_settings, dotenv_settings)
        return init_settings, env_settings, dotenv_settings, files, file_secret_settings

    @field_validator("trusted_proxies")
    @classmethod
    def _require_networks(cls, proxies: list[str]) -> list[str]:
        for proxy in proxies:
            try:
                found = ip_network(proxy)
            except ValueError as problem:
                raise ValueError(
                    f"{proxy!r} is no address and no network, such as 10.0.0.5 or 10.0.0.0/24."
                ) from problem
            if found.prefixlen == 0:
                raise ValueError(
                    f"{proxy} is every address, so clients could choose the address that they are"
                    " counted by. Name the network of the proxy."
                )
        return proxies

    @model_validator(mode="after")
    def _refuse_unsafe_notifications(self) -> Self:
        is_production = self.environment is Environment.PRODUCTION
        for fault in (
            self.webhook_fault(is_production=is_production),
            self.smtp_fault(is_production=is_production),
        ):
            if fault:
                raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _agree_on_root_path(self) -> Self:
        named = path_of(self.public_url)
        if named and self.root_path and named != self.root_path:
            raise ValueError(
                f"XRAY_PUBLIC_URL has the path {named} and XRAY_ROOT_PATH is {self.root_path}."
                " Set one of them."
            )
        return self

    @field_validator("decoder_workers")
    @classmethod
    def _refuse_more_than_fit(cls, workers: int) -> int:
        if workers > 1 and workers * DECODER_MEMORY > _memory_bytes():
            most = max(1, _memory_bytes() // DECODER_MEMORY)
            raise ValueError(
                f"{workers} decoders may take {DECODER_MEMORY // 2**20} MB each, which is more "
                f"than this machine or container has. Set XRAY_DECODER_WORKERS to {most} at most."
            )
        return workers

    @model_validator(mode="after")
    def _refuse_unsafe(self) -> Self:
        if self.environment is not Environment.PRODUCTION:
            return self
        faults = []
        if fault := secret_fault(self.secret_key.get_secret_value()):
            faults.append(f"XRAY_SECRET_KEY {fault}. Create one with openssl rand -hex 32.")
        token = self.metrics_token.get_secret_value()
        if token and (fault := secret_fault(token)):
            faults.append(f"XRAY_METRICS_TOKEN {fault}. Create one with openssl rand -hex 32.")
        # Starlette takes a leading "*." for any subdomain; with nothing behind it, for any host.
        if not self.allowed_hosts or any(not host.strip("*. ") for host in self.allowed_hosts):
            faults.append(
                'XRAY_ALLOWED_HOSTS needs the host names that are served, such as ["xray.org"].'
            )
        if self.effective_database_url.startswith("sqlite"):
            faults.append(
                "XRAY_DATABASE_URL needs a PostgreSQL database, such as"
                " postgresql://xray@host/xray: SQLite serves one machine only."
            )
        if not self.public_url.startswith("https://"):
            faults.append("XRAY_PUBLIC_URL needs the https:// address that visitors use.")
        if faults:
            raise ValueError("These settings are not safe for production. " + " ".join(faults))
        return self

    @property
    def home_folder(self) -> HomeFolder:
        """The paths in the home folder."""
        return HomeFolder(self.home.resolve())

    @property
    def effective_log_format(self) -> LogFormat:
        """The configured format, or JSON in production and text elsewhere."""
        if self.log_format is not None:
            return self.log_format
        production = self.environment is Environment.PRODUCTION
        return LogFormat.JSON if production else LogFormat.TEXT

    @property
    def max_upload_bytes(self) -> int:
        """Size limit of an image, in bytes."""
        return self.max_upload_mb * 1_000_000

    @property
    def max_archive_bytes(self) -> int:
        """Size limit of an archive of images, in bytes."""
        return self.max_archive_mb * 1_000_000

    @property
    def effective_visitor_days(self) -> int:
        """Days after which a visitor's screening is deleted; 0: never."""
        if self.visitor_days is not None:
            return self.visitor_days
        return 90 if self.environment is Environment.PRODUCTION else 0

    @property
    def secure_cookies(self) -> bool:
        """Whether cookies are sent over TLS only."""
        return self.public_url.startswith("https://")

    @property
    def effective_root_path(self) -> str:
        """The path below which browsers find the application; empty at the root of the host."""
        return self.root_path or path_of(self.public_url)

    @property
    def public_address(self) -> str:
        """Address that visitors use, with the root path, without a slash; empty where unknown."""
        base = self.public_url.rstrip("/")
        return base if path_of(base) or not base else base + self.root_path

    @property
    def answered_hosts(self) -> list[str]:
        """The allowed hosts, and this machine itself, which probes the health."""
        return [*self.allowed_hosts, "127.0.0.1", "localhost", "[::1]"]

    @property
    def effective_database_url(self) -> str:
        """The configured database with its password, or SQLite in the home folder."""
        if not self.database_url:
            return f"sqlite:///{self.home_folder.database}"
        return _with_password(self.database_url, self.database_password)

    @property
    def effective_broker_url(self) -> str:
        """The configured broker with its password; empty where folders serve as one."""
        return self.broker_url and _with_password(self.broker_url, self.broker_password)

    @property
    def effective_storage_url(self) -> str:
        """The configured artefact storage, or a folder in the home folder."""
        return self.storage_url or self.home_folder.artefacts.as_uri()

    @cached_property
    def signing_key(self) -> str:
        """The configured secret, or the one created on the first start."""
        configured = self.secret_key.get_secret_value()
        return configured or stored_secret(self.home_folder.secret_key)


def _with_password(url: str, password: SecretStr) -> str:
    """A URL with a password, unless it has one already."""
    secret, parsed = password.get_secret_value(), urlsplit(url)
    if not secret or parsed.password:
        return url
    _, _, address = parsed.netloc.rpartition("@")
    credentials = f"{parsed.username or ''}:{quote(secret, safe='')}"
    return urlunsplit(parsed._replace(netloc=f"{credentials}@{address}"))
