"""What the page of the system shows: workers, queue, disk and versions; nothing secret."""

import platform
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from alembic.script import ScriptDirectory
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.core.disk_use import DiskMeter, DiskUse, folder_bytes
from app.core.errors import NotReady
from app.migrations import alembic_config
from app.runs.heartbeat import WorkerSign, workers_alive
from app.runs.run_types import lane_of
from app.runs.tables import Run, RunLane, RunQueue, RunStatus
from app.runs.views import RunSummary
from app.screenings.tables import Screening
from app.services import Services
from app.settings import Settings
from ml.texts import msg

_LISTED = 20
_LIBRARIES = ("onnxruntime", "torch", "pydicom", "celery")


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker that is alive.

    Attributes:
        sign: what it says about itself.
        runs: what it executes.
    """

    sign: WorkerSign
    runs: list[RunSummary]


@dataclass(frozen=True, slots=True)
class QueueView:
    """The runs of a device and a lane.

    Attributes:
        queue: the device.
        lane: the lane.
        waiting: how many runs are queued.
        running: how many are at work.
        is_served: whether a worker is alive that executes them.
    """

    queue: RunQueue
    lane: RunLane
    waiting: int
    running: int
    is_served: bool


@dataclass(frozen=True, slots=True)
class DiskView:
    """Disk space.

    Attributes:
        use: by kind.
        free: of the home folder, in bytes.
        is_low: whether so little is free that images are refused.
    """

    use: DiskUse
    free: int
    is_low: bool


def worker_views(session: Session, settings: Settings) -> list[WorkerView]:
    """The workers that are alive, with what they execute."""
    running = list(session.scalars(select(Run).where(Run.status == RunStatus.RUNNING)))
    return [
        WorkerView(
            sign,
            [
                RunSummary.of(run)
                for run in running
                if (run.lease_owner or "").startswith(f"{sign.host}:{sign.pid}:")
            ],
        )
        for sign in workers_alive(settings)
    ]


def queue_views(session: Session, workers: Sequence[WorkerView]) -> list[QueueView]:
    """The queues that have runs or are served."""
    query = select(Run.queue, Run.run_type, Run.status, func.count().label("number"))
    query = query.where(Run.status.in_([RunStatus.QUEUED, RunStatus.RUNNING]))
    counts: dict[tuple[RunQueue, RunLane, RunStatus], int] = {}
    for row in session.execute(query.group_by(Run.queue, Run.run_type, Run.status)):
        key = (row.queue, lane_of(row.run_type), row.status)
        counts[key] = counts.get(key, 0) + row.number
    found = [
        QueueView(
            queue,
            lane,
            waiting=counts.get((queue, lane, RunStatus.QUEUED), 0),
            running=counts.get((queue, lane, RunStatus.RUNNING), 0),
            is_served=any(
                queue in each.sign.queues
                and lane in each.sign.lanes
                and (queue is RunQueue.CPU or bool(each.sign.gpu))
                for each in workers
            ),
        )
        for queue in RunQueue
        for lane in RunLane
    ]
    return [each for each in found if each.waiting or each.running or each.is_served]


def first_queued(session: Session) -> list[RunSummary]:
    """The first queued runs of all queues."""
    query = select(Run).where(Run.status == RunStatus.QUEUED)
    query = query.order_by(Run.priority.desc(), Run.created_at, Run.id).limit(_LISTED)
    return [RunSummary.of(run) for run in session.scalars(query)]


def disk_meter(services: Services) -> DiskMeter:
    """Measures what the application stores, by kind."""
    home = services.settings.home_folder

    def in_database() -> int:
        with services.database.sessions() as session:
            return _database_bytes(session)

    def of_images() -> int:
        with services.database.sessions() as session:
            return int(session.scalar(select(func.sum(Screening.stored_bytes))) or 0)

    return DiskMeter(
        {
            msg("Images of screenings"): of_images,
            msg("Runs"): lambda: folder_bytes(home.runs),
            msg("Models"): lambda: folder_bytes(home.models),
            msg("Data sets"): lambda: folder_bytes(home.data_sets),
            msg("Uploads of imports"): lambda: folder_bytes(home.staging),
            msg("Cache"): lambda: folder_bytes(home.cache),
            msg("Database"): in_database,
        }
    )


def disk_view(settings: Settings, meter: DiskMeter) -> DiskView:
    """Disk space by kind, and what is free."""
    free = shutil.disk_usage(settings.home_folder.root).free
    return DiskView(meter.read(), free, free < settings.min_free_mb * 1_000_000)


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"


def _database_bytes(session: Session) -> int:
    size = (
        "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        if _is_sqlite(session)
        else "SELECT pg_database_size(current_database())"
    )
    return int(session.execute(text(size)).scalar_one())


def versions(session: Session, services: Services) -> list[tuple[str, str]]:
    """What is installed and active, by name."""
    settings = services.settings
    schema = session.execute(text("SELECT version_num FROM alembic_version")).scalar()
    newest = ScriptDirectory.from_config(alembic_config()).get_current_head()
    card = None
    with suppress(NotReady):
        card = services.classifier.get(timeout_s=0).card
    found = [
        (msg("Application"), version("xray-screening")),
        (msg("Environment"), f"{settings.environment}{', trial mode' * settings.trial_mode}"),
        (msg("Classifier"), f"{card.version} ({card.sha256[:12]})" if card else msg("not loaded")),
        (msg("Database"), _database_version(session)),
        (msg("Database schema"), f"{schema}{'' if schema == newest else f', expected {newest}'}"),
        (
            msg("Broker"),
            "Redis" if settings.effective_broker_url else msg("folders in the home folder"),
        ),
        (msg("Image storage"), settings.effective_storage_url.partition(":")[0]),
        (msg("Notifications"), ", ".join(settings.channels) or msg("none")),
        ("Python", platform.python_version()),
    ]
    return found + [(name, number) for name in _LIBRARIES if (number := _installed(name))]


def _database_version(session: Session) -> str:
    if _is_sqlite(session):
        return f"SQLite {session.execute(text('SELECT sqlite_version()')).scalar_one()}"
    return f"PostgreSQL {session.execute(text('SHOW server_version')).scalar_one()}"


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
