"""Import images as a data set version."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, JsonValue
from pydantic.dataclasses import dataclass

from app.core.storage import Storage
from app.datasets.corrections import write_corrections
from app.datasets.tables import DataKind, DataVersion
from app.datasets.versions import register_data
from app.runs.handlers.base import (
    DATA_SET_FOLDER,
    DONE,
    Completion,
    Input,
    InputType,
    Preparation,
    RegisteredData,
    RunType,
    typed_options,
)
from app.runs.tables import Run, RunLane
from app.settings import Settings
from ml.data.importers.import_images import write_left_out
from ml.data.manifest import MANIFEST
from ml.errors import DataError
from ml.json_model import JsonObject
from ml.option_fields import BASIC, HIDDEN
from ml.texts import msg

# Images that come with a manifest; the other layouts are those of `ml.data.importers.layouts`.
DATA_SET: Final = "data-set"
Layout = Literal[
    "data-set", "covid-chestxray-dataset", "radiography", "kermany", "nih", "folders", "dicom"
]
# The option that names an uploaded archive.
UPLOAD: Final = "upload"
_CORRECTIONS = "corrections"
# Lists the reviewed images that are stored rotated or inverted.
LEFT_OUT_REVIEWED = "left-out-reviewed.csv"
_CORRECTIONS_PART = ".corrections.part"
# In an import's folder; `ml.data.importers.prepare` works in the last.
_FOLDERS_WITH_IMAGES = (
    DATA_SET_FOLDER,
    f".{DATA_SET_FOLDER}.linked",
    _CORRECTIONS,
    _CORRECTIONS_PART,
    ".prepare-part",
)


@dataclass(frozen=True)
class ImportOptions:
    """Options of importing images as a data set version."""

    name: str = Field(default="", description=msg("Name of the data set."), json_schema_extra=BASIC)
    kind: Layout = Field(
        default=DATA_SET,
        title=msg("Layout"),
        description=msg(
            "How the images are laid out: a data set with its manifest, or a public set "
            "as it was downloaded."
        ),
        json_schema_extra=BASIC,
    )
    folder: str = Field(
        default="",
        description=msg("Folder on the worker's machine that contains the images."),
        json_schema_extra=BASIC,
    )
    upload: str = Field(
        default="",
        description=msg("Uploaded archive: the name of its folder in staging."),
        json_schema_extra=HIDDEN,
    )
    corrections: bool = Field(
        default=False,
        title=msg("Reviewed images"),
        description=msg("Add the images that clinicians have reviewed."),
        json_schema_extra=BASIC,
    )


class ImportData(RunType):
    """Import images as a data set version."""

    name = "import-data"
    title = msg("Import a data set")
    summary = msg("Import images from an archive, a folder or reviews as a new data set version.")
    program = ("ml", "data", "prepare")
    lane = RunLane.SHORT
    inputs = (
        Input("base", InputType.DATA, msg("Version that the images are added to."), required=False),
    )
    Options = ImportOptions
    uses_device = False

    def validate(self, options: JsonObject) -> dict[str, str]:
        """An import has a name and at least one source of images."""
        faults, upload = {}, str(options[UPLOAD])
        if not str(options["name"]).strip():
            faults["name"] = msg("Enter a name for the data set.")
        if not (options["folder"] or upload or options["corrections"]):
            faults["folder"] = msg("Name a folder, upload an archive, or add the reviewed images.")
        # The folder of that name is removed in the end, so it must not be any other.
        if upload and not re.fullmatch(r"[0-9a-f-]{36}", upload):
            faults[UPLOAD] = msg("This is not an uploaded archive. Upload the archive again.")
        return faults

    def prepare(self, before: Preparation) -> dict[str, JsonValue]:
        """Find the images.

        Raises:
            DataError: they are missing, or are the application's own files.
        """
        options = typed_options(ImportOptions, self, before.run)
        folders: list[JsonValue] = []
        archives: list[JsonValue] = []
        if options.folder:
            if fault := folder_fault(before.settings, Path(options.folder), options.kind):
                raise DataError(fault)
            folders.append(str(Path(options.folder).resolve()))
        if options.upload:
            archives.append(str(_uploaded(before.settings, options.upload)))
        if options.corrections:
            folders.append(str(_corrections(before)))
        return {
            "folder": None,
            UPLOAD: None,
            "corrections": None,
            "kind": [options.kind],
            "add": folders,
            "archive": archives,
        }

    def complete(self, done: Completion) -> RegisteredData:
        """Register the images as a data set version."""
        base = done.input("base")
        parent = done.session.get(DataVersion, base) if base else None
        version = register_data(
            done.session,
            done.settings,
            done.linked_data_set(),
            name=typed_options(ImportOptions, self, done.run).name,
            kind=DataKind.IMAGES,
            by=done.run.requested_by,
            run_id=done.run.id,
            parent_sha256=parent.sha256 if parent else None,
        )
        return RegisteredData(data=version.sha256, images=version.images)


def folder_fault(settings: Settings, folder: Path, layout: str) -> str | None:
    """Why a folder of this machine cannot be imported; None if it can be tried."""
    if not folder.is_absolute():
        return msg(
            "%(folder)s is not an absolute path. Enter one, such as /data/images.",
            folder=str(folder),
        )
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        return msg(
            "There is no readable folder %(folder)s. Check its path and permissions.",
            folder=str(folder),
        )
    # It contains what visitors and clinics uploaded, who did not upload it for this.
    if settings.home_folder.overlaps(folder):
        return msg(
            "%(folder)s contains the application's own files. Choose another folder.",
            folder=str(folder),
        )
    if layout == DATA_SET and not (folder / MANIFEST).is_file():
        return msg(
            "There is no %(manifest)s in %(folder)s. Choose the layout of its images.",
            manifest=MANIFEST,
            folder=str(folder),
        )
    return None


def upload_folder(settings: Settings, name: str) -> Path:
    """Where an uploaded archive waits for its run."""
    return settings.home_folder.upload(name)


def _uploaded(settings: Settings, name: str) -> Path:
    """The one file that was uploaded."""
    folder = upload_folder(settings, name)
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    if len(found) != 1:
        raise DataError(msg("The uploaded archive is missing. Upload it again."))
    return found[0]


def _corrections(before: Preparation) -> Path:
    """The reviewed images, as they were at the first attempt since the run was started."""
    folder = before.folder / _CORRECTIONS
    if not folder.exists():
        part = folder.with_name(_CORRECTIONS_PART)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        storage = Storage.open(before.settings.effective_storage_url)
        written, left_out = write_corrections(before.session, storage, part)
        write_left_out(before.folder / LEFT_OUT_REVIEWED, left_out)
        if not written:
            raise DataError(msg("There are no reviewed images yet. Import without them."))
        part.rename(folder)
    return folder


def remove_intermediate_files(settings: Settings, run: Run, folder: Path) -> None:
    """Remove what a succeeded run no longer needs: its images are a data set version now."""
    shutil.rmtree(folder / DATA_SET_FOLDER, ignore_errors=True)
    remove_import_images(settings, run, folder)


def remove_import_images(settings: Settings, run: Run, folder: Path) -> None:
    """Remove the images of an import that has ended, whatever its outcome.

    They are of patients, whether uploaded, unpacked or reviewed here. A resumed run gathers them
    again, without those whose screening has been deleted meanwhile.
    """
    if UPLOAD not in run.options:
        return
    # First, as it says that the images are there.
    with suppress(OSError):
        (folder / DONE).unlink()
    for name in _FOLDERS_WITH_IMAGES:
        shutil.rmtree(folder / name, ignore_errors=True)
    if upload := run.options[UPLOAD]:
        shutil.rmtree(upload_folder(settings, str(upload)), ignore_errors=True)
