"""Data sets to be: what an admin asks for is checked, staged, and done by a run."""

import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.database import Database
from app.core.errors import InvalidForm
from app.datasets.tables import DataKind, DataVersion
from app.datasets.versions import checked_name
from app.runs import queue as runs
from app.runs.files import run_folder
from app.runs.handlers.import_data import (
    DATA_SET,
    ImportData,
    folder_fault,
    remove_import_images,
    upload_folder,
)
from app.runs.service import create_run
from app.runs.tables import Run, RunStatus
from app.screenings.reviews import count_reviewed
from app.settings import Settings
from ml.data.importers.unpack import is_archive
from ml.texts import msg

LAYOUT_NAMES: dict[str, str] = {
    "folders": msg("Folders named after the classes, such as covid and normal"),
    DATA_SET: msg("A data set with its manifest.csv"),
    "covid-chestxray-dataset": msg("covid-chestxray-dataset: metadata.csv and images"),
    "radiography": "COVID-19 Radiography Database",
    "kermany": msg("Kermany, chest_xray: NORMAL and PNEUMONIA"),
    "nih": msg("NIH ChestX-ray14: Data_Entry_2017.csv and images"),
    "dicom": msg("DICOM files and a labels.csv"),
}
# An upload that is being received was written to since.
_STALE_S = 3600


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """A data set that an admin wants.

    Attributes:
        name: what it is to be called.
        layout: how the images come, one of `LAYOUT_NAMES`.
        archive: what was uploaded.
        folder: a folder of the server.
        base: SHA-256 of the version that it is based on, or nothing.
        corrections: whether images that clinicians reviewed are added.
    """

    name: str
    layout: str
    archive: Path | None
    folder: str
    base: str
    corrections: bool


def read_order(
    session: Session, settings: Settings, fields: Mapping[str, str], archive: Path | None
) -> ImportOrder:
    """Read the form of a data set to be.

    Raises:
        InvalidForm: names every fault.
    """
    name, layout, base, folder = (
        fields.get(field, "").strip() for field in ("name", "layout", "base", "folder")
    )
    corrections = bool(fields.get("corrections"))
    faults: dict[str, str] = {}
    try:
        name = checked_name(name)
    except InvalidForm as refused:
        faults |= refused.faults
    if layout not in LAYOUT_NAMES:
        faults["layout"] = msg("Choose the layout of the images.")
    if base and not _is_images(session, base):
        faults["base"] = msg("There is no such data set of real images. Choose one from the list.")
    if corrections and not count_reviewed(session):
        faults["corrections"] = msg(
            "No image has been reviewed yet. Import without reviewed images."
        )
    if archive and folder:
        faults["folder"] = msg("Upload an archive or name a folder, not both.")
    elif archive and not is_archive(archive):
        faults["archive"] = msg(
            "This is not a ZIP or TAR archive. Pack the images as one of these."
        )
    elif folder and (fault := folder_fault(settings, Path(folder), layout)):
        faults["folder"] = fault
    elif not (archive or folder or corrections):
        faults["archive"] = msg("Upload an archive, name a folder, or add the reviewed images.")
    if faults:
        raise InvalidForm(faults)
    return ImportOrder(name, layout, archive, folder, base, corrections)


def _is_images(session: Session, sha256: str) -> bool:
    version = session.get(DataVersion, sha256)
    return version is not None and version.kind is DataKind.IMAGES


def start_import(session: Session, order: ImportOrder, *, by: str) -> Run:
    """Start the run that makes the data set; commit, then ring for it.

    Raises:
        RunRefused: the order was not read by `read_order`.
    """
    options = {
        "name": order.name,
        "kind": order.layout,
        "folder": order.folder,
        "upload": order.archive.parent.name if order.archive else "",
        "base": order.base or None,
        "corrections": order.corrections,
    }
    return create_run(session, ImportData.name, options, requested_by=by)


def new_staging_folder(settings: Settings) -> Path:
    """A new folder for one upload that a run will import."""
    folder = upload_folder(settings, str(uuid.uuid4()))
    folder.mkdir(mode=0o700, parents=True)
    return folder


def remove_unused_uploads(database: Database, settings: Settings) -> int:
    """Remove uploads whose run is over, however it ended, and those that never became a run.

    Returns:
        How many were removed.
    """
    youngest = time.time() - _STALE_S
    folders = [
        folder
        for folder in settings.home_folder.staging.glob("*")
        if _touched_at(folder) < youngest
    ]
    # Asked after the listing: a run that was started meanwhile is seen.
    alive = select(Run.options).where(
        Run.run_type == ImportData.name, Run.status.in_([RunStatus.QUEUED, RunStatus.RUNNING])
    )
    with database.sessions() as session:
        needed = {options.get("upload") for options in session.scalars(alive)}
    unused = [folder for folder in folders if folder.name not in needed]
    for folder in unused:
        shutil.rmtree(folder, ignore_errors=True)
    return len(unused)


def clear_ended_imports(database: Database, settings: Settings) -> None:
    """Remove the images of imports that ended while no worker was there to do so."""
    over = select(Run).where(
        Run.run_type == ImportData.name, Run.status.not_in([RunStatus.QUEUED, RunStatus.RUNNING])
    )
    with database.sessions() as session:
        ended = session.scalars(over).all()
    for run in ended:
        folder = run_folder(settings, run.id)
        # One that was resumed meanwhile needs them.
        if folder.is_dir() and _is_over(database, run.id):
            remove_import_images(settings, run, folder)


def _is_over(database: Database, id: uuid.UUID) -> bool:
    with database.sessions() as session:
        return runs.get_run(session, id).status not in (RunStatus.QUEUED, RunStatus.RUNNING)


def _touched_at(folder: Path) -> float:
    """When something came into a folder last, also into a file that is there."""
    return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
