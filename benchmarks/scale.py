"""Lists, clean-up and backup with many rows and files, on SQLite and PostgreSQL.

    python -m benchmarks.scale --screenings 1000000 --files 100000

Rows are copies of one row that the application made, each with its own time and id.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import select, text
from sqlalchemy.orm import InstrumentedAttribute, Session

import app.tables  # noqa: F401 - foreign keys lead across features
from app.accounts.owner import Owner
from app.accounts.tables import Clinic
from app.core.audit import AuditEvent
from app.core.database import Base, Database, now
from app.core.pagination import Page, cursor_after
from app.core.storage import Storage
from app.datasets.tables import DataKind, DataVersion
from app.gallery.queries import GalleryFilter, gallery_page
from app.gallery.tables import SyntheticImage
from app.migrations import upgrade
from app.registry.tables import ModelKind, ModelVersion
from app.runs.tables import Run, RunQueue, RunStatus
from app.runs.views import RunFilter, runs_page
from app.screenings.queries import count_screenings, screenings_page
from app.screenings.stored_images import image_key
from app.screenings.tables import Screening
from app.site.audit_log import AuditFilter, audit_page
from tests.support.postgres import fresh_database
from tests.support.screenings import screening_row

REPEATS = 7
MODEL, DATA = "0" * 64, "1" * 64


@dataclass(frozen=True, slots=True)
class List:
    """A list of the application.

    Attributes:
        name: of the list.
        table: its rows.
        columns: its order.
        page: gives a page after a cursor.
    """

    name: str
    table: type[Base]
    columns: tuple[InstrumentedAttribute[Any], ...]
    page: Callable[[Session, str | None], Page[Any]]


def lists(clinic: uuid.UUID) -> list[List]:
    """The lists that grow."""
    owner = Owner(clinic_id=clinic)
    return [
        List(
            "screenings",
            Screening,
            (Screening.created_at, Screening.id),
            lambda session, cursor: screenings_page(session, owner, cursor),
        ),
        List(
            "audit log",
            AuditEvent,
            (AuditEvent.at, AuditEvent.id),
            lambda session, cursor: audit_page(session, AuditFilter(), cursor),
        ),
        List(
            "runs",
            Run,
            (Run.created_at, Run.id),
            lambda session, cursor: runs_page(session, RunFilter(), cursor),
        ),
        List(
            "synthetic images",
            SyntheticImage,
            (SyntheticImage.id,),
            lambda session, cursor: gallery_page(session, GalleryFilter(), cursor, 60),
        ),
    ]


def fill(database: Database, screenings: int, runs: int, images: int) -> uuid.UUID:
    """Make one row of each kind, and copies of it; returns the clinic of the screenings."""
    clinic = Clinic(id=uuid.uuid4(), name="clinic")
    at = now() - timedelta(days=1)
    with database.session() as session:
        session.add_all([clinic, *models()])
        session.flush()
        rows = [screening(clinic.id), event(), run(), synthetic_image()]
        for row, column in zip(rows, ("created_at", "at", "created_at", None), strict=True):
            if column:
                setattr(row, column, at)
        session.add_all(rows)
    for row, count in zip(rows, (screenings, screenings, runs, images), strict=True):
        multiply(database, row, count - 1)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    return clinic.id


def models() -> list[Base]:
    """A classifier or generator, and a data set, for foreign keys."""
    return [
        ModelVersion(
            sha256=MODEL, kind=ModelKind.GENERATOR, version="1", card={}, parents=[], folder="m"
        ),
        DataVersion(
            sha256=DATA,
            kind=DataKind.SYNTHETIC,
            name="d",
            folder="d",
            images=1,
            summary={},
            created_by="user:admin",
        ),
    ]


def screening(clinic: uuid.UUID) -> Screening:
    """A screening as the application records it: a heat map of three classes."""
    return screening_row(
        uuid.uuid4(),
        clinic_id=clinic,
        image_sha256="2" * 64,
        image_width=1024,
        image_height=1024,
        model_sha256=MODEL,
        model_version="1",
        label="covid",
        decision="covid",
        probabilities={"covid": 0.9, "pneumonia": 0.06, "normal": 0.04},
        ood_score=1.0,
        activation_map=[[[0.125] * 7] * 7] * 3,
        timings={"decode": 10.0},
        reference="study 4711",
    )


def event() -> AuditEvent:
    """An entry of the audit log."""
    return AuditEvent(
        id=uuid.uuid4(), actor="clinic:1", action="screening.created", subject="1", detail={}
    )


def run() -> Run:
    """A run that has ended."""
    return Run(
        id=uuid.uuid4(),
        run_type="train-classifier",
        options={"epochs": 3},
        queue=RunQueue.CPU,
        status=RunStatus.SUCCEEDED,
        requested_by="user:admin",
        log_tail="epoch 1: loss 0.5\n" * 100,
    )


def synthetic_image() -> SyntheticImage:
    """An image of the gallery."""
    return SyntheticImage(
        model_sha256=MODEL,
        data_sha256=DATA,
        label="covid",
        seed="1",
        image="images/0.png",
        privacy_check={},
    )


def multiply(database: Database, row: Base, count: int) -> None:
    """Insert copies of a row, each a second older than the one before."""
    is_postgres = database.engine.dialect.name == "postgresql"
    table = row.__table__
    changed = {"image": "'images/' || n.i || '.png'"}
    if is_postgres:
        numbers = f"generate_series(1, {count}) AS n(i)"
        changed["id"] = "md5(n.i::text)::uuid"
        older = "t.{name} - n.i * interval '1 second'"
    else:
        numbers = (
            f"(WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {count}) "
            "SELECT i FROM c) n"
        )
        changed["id"] = "lower(hex(randomblob(16)))"
        older = "strftime('%Y-%m-%d %H:%M:%f', t.{name}, '-' || n.i || ' seconds') || '000'"
    changed |= {name: older.format(name=name) for name in ("created_at", "at")}
    # Numbered by the database.
    names = [
        column.name
        for column in table.columns
        if not (column.primary_key and column.autoincrement is True)
    ]
    values = ", ".join(changed.get(name, f't."{name}"') for name in names)
    columns = ", ".join(f'"{name}"' for name in names)
    statement = f'INSERT INTO "{table.name}" ({columns}) SELECT {values} FROM "{table.name}" t, '
    with database.engine.begin() as connection:
        connection.execute(text(f"{statement}{numbers}"))


def measure(database: Database, clinic: uuid.UUID, name: str, table: Table) -> None:
    """Add the times of all lists: first, middle and last page."""
    for each in lists(clinic):
        with database.sessions() as session:
            total = session.execute(text(f'SELECT count(*) FROM "{each.table.__tablename__}"'))
            rows = total.scalar_one()
            cursors = [None, *(cursor_at(session, each, rows, share) for share in (0.5, 1.0))]
        pages = [partial(each.page, cursor=cursor) for cursor in cursors]
        times = [median_ms(database, page) for page in pages]
        table.add_row(name, each.name, f"{rows:,}", *(f"{ms:.1f}" for ms in times))
    owner = Owner(clinic_id=clinic)
    counted = median_ms(database, lambda session: count_screenings(session, owner))
    table.add_row(name, "count of screenings", "", f"{counted:.1f}", "", "")


def cursor_at(session: Session, each: List, rows: int, share: float) -> str:
    """The cursor of a page in the middle, or of the last one."""
    skipped = max(0, int(share * rows) - 25)
    order = [column.desc() for column in each.columns]
    query = select(each.table).order_by(*order).offset(skipped).limit(1)
    return cursor_after(session.scalars(query).one(), each.columns)


def median_ms(database: Database, call: Callable[[Session], object]) -> float:
    """The median time of a query and its rows, each time in a new session."""
    times = []
    for _ in range(REPEATS):
        with database.sessions() as session:
            start = time.perf_counter()
            call(session)
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, Database]]:
    """SQLite and, where there is a server, PostgreSQL; both empty."""
    with fresh_database() as url:
        found = {"SQLite": Database(f"sqlite:///{folder / 'xray.db'}")}
        if url:
            found["PostgreSQL"] = Database(url)
        for database in found.values():
            upgrade(database.engine)
        try:
            yield found
        finally:
            for database in found.values():
                database.close()


def measure_files(folder: Path, files: int) -> Table:
    """Clean-up and backup of many files, each in a separate process."""
    home = folder / "home"
    table = Table("files", "command", "seconds", "largest memory, MB")
    for count in (files // 10, files):
        make_files(home, count)
        for name, command in (
            ("xray storage clean-up", ["storage", "clean-up"]),
            ("xray backup, first", ["backup", str(folder / f"backup-{count}")]),
            ("xray backup, again", ["backup", str(folder / f"backup-{count}")]),
        ):
            start = time.perf_counter()
            memory = run_command(home, command)
            seconds = time.perf_counter() - start
            table.add_row(f"{count:,}", name, f"{seconds:.1f}", f"{memory:.0f}")
    return table


def make_files(home: Path, count: int) -> None:
    """Give a home folder so many screenings with an image of 1 KB."""
    database = Database(f"sqlite:///{home / 'xray.db'}")
    upgrade(database.engine)
    storage = Storage.open((home / "artefacts").as_uri())
    with database.session() as session:
        clinic = session.scalar(select(Clinic))
        if clinic is None:
            clinic = Clinic(id=uuid.uuid4(), name="clinic")
            session.add_all([clinic, *models()])
            session.flush()
        made = session.execute(text("SELECT count(*) FROM screening")).scalar_one()
        for number in range(made, count):
            row = screening(clinic.id)
            session.add(row)
            path = home / "artefacts" / image_key(row.id)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(1000))
            if number % 1000 == 999:
                session.flush()
                session.expunge_all()
    storage.check()
    database.close()


def run_command(home: Path, command: list[str]) -> float:
    """Run a command; the most memory that it took, in MB."""
    environment = os.environ | {"XRAY_HOME": str(home)}
    program = subprocess.Popen(
        [sys.executable, "-m", "app", *command], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(program.pid, 0)
    if status:
        raise SystemExit(f"xray {' '.join(command)} failed")
    found: resource.struct_rusage = usage
    return found.ru_maxrss / 1024


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screenings", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=100_000)
    given = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = Table("database", "list", "rows", "first page, ms", "middle", "last")
        with databases(folder) as found:
            for kind, database in found.items():
                clinic = fill(database, given.screenings, given.runs, given.images)
                measure(database, clinic, kind, table)
        console.print(table)
        if given.files:
            console.print(measure_files(folder, given.files))


if __name__ == "__main__":
    main()
