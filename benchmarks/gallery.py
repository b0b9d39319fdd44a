"""How long a page of the gallery takes, first and last, beside one that counts rows from the top.

    python -m benchmarks.gallery --images 50000

The plain way of most galleries is `LIMIT 60 OFFSET n`: to show a late page it reads all earlier
ones. Ours follows keys. Both are measured in one run on the same rows, in turn; the times of ours
and of the plain query are of the database alone, that of the page is of the whole answer.
"""

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.database import Database, now
from app.datasets.tables import DataKind, DataVersion
from app.gallery.queries import PAGE_SIZE, GalleryFilter, gallery_page, queries
from app.gallery.tables import SyntheticImage
from app.main import create_app
from app.migrations import upgrade
from app.registry.tables import ModelKind, ModelVersion
from app.settings import Settings
from ml.labels import LABELS
from tests.support.postgres import fresh_database

REPEATS = 15
MODELS = ("a" * 64, "b" * 64)


def fill(database: Database, images: int) -> None:
    """Images of two generators and all classes in turn."""
    card = {"options": {"labels": ",".join(LABELS), "conditional": True, "size": 64}}
    with database.session() as session:
        for sha256 in MODELS:
            kind = ModelKind.GENERATOR
            session.add(ModelVersion(sha256=sha256, kind=kind, version="bench", card=card))
        session.add(
            DataVersion(
                sha256="d" * 64,
                kind=DataKind.SYNTHETIC,
                name="bench",
                folder="data/none",
                images=images,
                summary={},
                created_at=now(),
                created_by="bench",
            )
        )
        session.flush()
        for start in range(0, images, 1000):
            rows = [
                {
                    "model_sha256": MODELS[number % len(MODELS)],
                    "data_sha256": "d" * 64,
                    "label": LABELS[number // len(MODELS) % len(LABELS)],
                    "seed": str(number),
                    "image": f"images/{uuid.uuid4().hex}.png",
                    "nearest_percentile": 50.0,
                    "privacy_check": {"held_out_images": "214", "features": "x" * 300},
                }
                for number in range(start, min(start + 1000, images))
            ]
            session.execute(insert(SyntheticImage), rows)


def plain(session: Session, choice: GalleryFilter, skipped: int) -> list[SyntheticImage]:
    """The page after so many images, counted from the top."""
    query = select(SyntheticImage).order_by(SyntheticImage.id.desc())
    if choice.model:
        query = query.where(SyntheticImage.model_sha256 == choice.model)
    if choice.label:
        query = query.where(SyntheticImage.label == choice.label)
    return list(session.scalars(query.limit(PAGE_SIZE + 1).offset(skipped)))


def median_ms(*calls: Callable[[], object]) -> list[float]:
    """The median time of each, taken in turn so that a busy moment meets them all."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(REPEATS):
        for call, own in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            own.append(1000 * (time.perf_counter() - start))
    return [statistics.median(own) for own in times]


def measure(url: str, images: int, table: Table, name: str) -> None:
    """Add the rows of one database."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        database = Database(url or f"sqlite:///{home / 'xray.db'}")
        upgrade(database.engine)
        fill(database, images)
        settings = Settings(_env_file=None, home=home, database_url=str(database_url(database)))
        with TestClient(create_app(settings)) as client:
            choices = {
                "all": GalleryFilter(),
                "one class": GalleryFilter(label=LABELS[0]),
                "one generator": GalleryFilter(MODELS[0]),
                "both": GalleryFilter(MODELS[0], LABELS[0]),
            }
            for text, choice in choices.items():
                for place, share in (("first", 0.0), ("last", 1.0)):
                    table.add_row(name, text, place, *_row(database, client, choice, share))
        database.close()


def database_url(database: Database) -> str:
    """The address of a database, password included."""
    return database.engine.url.render_as_string(hide_password=False)


def _count(session: Session, choice: GalleryFilter) -> int:
    found = queries(choice)
    return sum(
        session.scalar(select(func.count()).select_from(query.subquery())) or 0 for query in found
    )


def _row(database: Database, client: TestClient, choice: GalleryFilter, share: float) -> list[str]:
    with database.sessions() as session:
        skipped = int(share * (_count(session, choice) - PAGE_SIZE - 1))
        # The cursor of a page that begins after so many images.
        before = gallery_page(session, choice, None, skipped).next_cursor if skipped else None
        ours = [image.id for image in gallery_page(session, choice, before, PAGE_SIZE).rows]
        assert ours == [image.id for image in plain(session, choice, skipped)][:PAGE_SIZE]
        session.expunge_all()
        query = {"model": choice.model or "", "label": choice.label or ""}
        address = client.build_request("GET", "/gallery", params=query).url
        page = f"{address}&before={before}" if before else str(address)
        assert client.get(page).status_code == 200
        keyed, counted, whole = median_ms(
            lambda: (gallery_page(session, choice, before, PAGE_SIZE), session.expunge_all()),
            lambda: (plain(session, choice, skipped), session.expunge_all()),
            lambda: client.get(page),
        )
    return [f"{keyed:.1f}", f"{counted:.1f}", f"{counted / keyed:.1f}", f"{whole:.0f}"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=50_000)
    images = parser.parse_args().images
    table = Table(
        "database", "images", "page", "keys, ms", "OFFSET, ms", "ratio", "whole answer, ms"
    )
    measure("", images, table, "SQLite")
    with fresh_database() as url:
        if url:
            measure(url, images, table, "PostgreSQL")
    console = Console()
    console.print(f"{images:,} images, {PAGE_SIZE} to a page, median of {REPEATS}")
    console.print(table)


if __name__ == "__main__":
    main()
