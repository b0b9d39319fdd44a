"""What a worker does around a run's program: what it hands over before, what it registers after."""

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.datasets.tables import DataKind, DataVersion
from app.registry.tables import ModelVersion
from app.runs.tables import Run
from app.settings import Settings
from ml.errors import DataError
from ml.files import link_or_copy

SET = "set"
# Of the option that names an uploaded archive.
UPLOAD = "upload"
# Says that the program has succeeded, and only what comes after is left to do.
DONE = ".done"
_CORRECTIONS = "corrections"
# In an import's folder; the last is where `ml.data.importers.prepare` works.
_IMAGES_OF_IMPORT = (SET, f".{SET}.linked", _CORRECTIONS, ".corrections.part", ".prepare-part")


@dataclass(frozen=True, slots=True)
class Preparation:
    """What there is to go by before a run's program starts.

    Attributes:
        session: the database.
        settings: the worker's.
        run: the run, claimed.
        folder: of the run; an earlier attempt may have left something there.

    """

    session: Session
    settings: Settings
    run: Run
    folder: Path

    @property
    def options(self) -> Mapping[str, Any]:
        """What the run was told."""
        return self.run.options


@dataclass(frozen=True, slots=True)
class Completion(Preparation):
    """What there is to go by after a run's program has succeeded.

    What is done in the session is committed together with the run's success, or not at all; files
    are in their place before. It may happen again, after a crash in between.
    """


# --- before ---------------------------------------------------------------------------------------


def name_bundle(before: Preparation) -> dict[str, Any]:
    """A name for the classifier to be, the same at every attempt."""
    run = before.run
    usual = f"{run.created_at:%Y-%m-%d} {str(run.id)[:8]}"
    # Runs from before classifiers were registered have no name for one.
    return {"bundle_version": before.options.get("bundle_version") or usual}


def choose_images(before: Preparation) -> dict[str, Any]:
    """Which images to make, and whether there is something to compare them with."""
    options = before.options
    # Embeddings of real images are kept for the next run.
    cache = before.settings.home_folder.cache
    flags: dict[str, Any] = {"progress": True, "freeze": True, "cache": str(cache)}
    if options["seeds"]:
        flags["count"] = None
    if not options["against"]:
        flags |= {"privacy_check": False, "refuse_below": None}
    return flags


def gather_images(before: Preparation) -> dict[str, Any]:
    """Where the images to be taken in are.

    Raises:
        DataError: they are not there (any more), or are the application's own files.
    """
    options = before.options
    added, archives = [], []
    if options["folder"]:
        added.append(_folder(before.settings, Path(options["folder"])))
    if options[UPLOAD]:
        archives.append(_uploaded(before.settings, options[UPLOAD]))
    if options["corrections"]:
        added.append(_corrections(before))
    return {
        "folder": None,
        UPLOAD: None,
        "corrections": None,
        "kind": [options["kind"]],
        "add": [str(path) for path in added],
        "archive": [str(path) for path in archives],
    }


def _folder(settings: Settings, folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} on the worker's machine")
    folder = folder.resolve()
    # There lie the images that visitors and clinics sent, and they did not send them for this.
    if settings.home_folder.overlaps(folder):
        raise DataError(f"{folder} has the application's own files: name a folder outside")
    return folder


def upload_folder(settings: Settings, name: str) -> Path:
    """Where an upload waits for its run."""
    return settings.home_folder.upload(name)


def _uploaded(settings: Settings, name: str) -> Path:
    """The one file that was uploaded."""
    folder = upload_folder(settings, name)
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    if len(found) != 1:
        raise DataError("the uploaded archive is not there any more: upload it again")
    return found[0]


def _corrections(before: Preparation) -> Path:
    """The reviewed images, as they were at the first attempt since the run was started."""
    from app.core.storage import Storage
    from app.datasets.corrections import write_corrections

    folder = before.folder / _CORRECTIONS
    if not folder.exists():
        part = folder.with_name(".corrections.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        storage = Storage.open(before.settings.effective_storage_url)
        if not write_corrections(before.session, storage, part):
            raise DataError("there are no reviewed images yet: start it without corrections")
        part.rename(folder)
    return folder


# --- after ----------------------------------------------------------------------------------------


def keep_generator(done: Completion) -> dict[str, Any]:
    """Register the generator that a training has measured and released."""
    from app.registry.registration import register_generator

    released = done.folder / "release"
    model = register_generator(
        done.session, done.settings, released, run=done.run, by=done.run.requested_by
    )
    return {"generator": model.sha256, "version": model.version}


def keep_classifier(done: Completion) -> dict[str, Any]:
    """Register the classifier that a training has exported and measured."""
    from app.registry.registration import register_classifier

    bundle = done.folder / "bundle"
    model = register_classifier(
        done.session, done.settings, bundle, run=done.run, by=done.run.requested_by
    )
    return {"classifier": model.sha256, "version": model.version}


def keep_comparison(done: Completion) -> dict[str, Any]:
    """Record how two classifiers compare, for the promotion checks."""
    from app.registry.comparisons import record_comparison

    comparison = record_comparison(done.session, done.settings, done.folder, run=done.run)
    return {
        "comparison": str(comparison.id),
        "candidate": comparison.candidate_sha256,
        "reference": comparison.reference_sha256,
        "passed": comparison.passed,
        "faults": comparison.faults,
    }


def keep_images(done: Completion) -> dict[str, Any]:
    """Register synthetic images as a data version and hang them in the gallery."""
    from app.datasets.versions import data_folder, register_data
    from app.gallery.registration import register_images

    generator = done.session.get_one(ModelVersion, done.options["generator"])
    label = done.options["label"] or "images"
    version = register_data(
        done.session,
        done.settings,
        _linked(done.folder / SET),
        name=f"Synthetic {label} of {generator.version}"[:200],
        kind=DataKind.SYNTHETIC,
        by=done.run.requested_by,
        run_id=done.run.id,
    )
    added = register_images(done.session, version, data_folder(done.settings, version))
    return {"data": version.sha256, "images": version.images, "in_gallery": added}


def keep_data(done: Completion) -> dict[str, Any]:
    """Register imported images as a data version."""
    from app.datasets.versions import register_data

    base = done.options["base"]
    parent = done.session.get(DataVersion, base) if base else None
    version = register_data(
        done.session,
        done.settings,
        _linked(done.folder / SET),
        name=done.options["name"],
        kind=DataKind.IMAGES,
        by=done.run.requested_by,
        run_id=done.run.id,
        parent_sha256=parent.sha256 if parent else None,
    )
    return {"data": version.sha256, "images": version.images}


def tell_classifier(done: Completion) -> dict[str, Any]:
    """The metrics that matter most, out of a classifier's report."""
    metrics = _read(done.folder / "metrics.json")["metrics"]
    return {name: metrics[name] for name in ("images", "accuracy", "macro_auroc")}


def tell_generator(done: Completion) -> dict[str, Any]:
    """The metrics that matter most, out of a generator's report; a space may have too few
    images.
    """
    measured = _read(done.folder / "metrics.json")
    pixels = measured["pixels"]
    distances = {f"kid_{each['name']}": each.get("kid") for each in measured["spaces"]}
    return {
        "samples": measured["samples"]["images"],
        **distances,
        "diversity": pixels["diversity"],
        "exact_copies": pixels["exact_copies"],
        "near_copies": pixels["near_copies"],
    }


def tell_conditions(done: Completion) -> dict[str, Any]:
    """What synthetic images did, in words."""
    return {"answer": _read(done.folder / "conditions.json")["sentences"]}


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _linked(folder: Path) -> Path:
    """A second tree of the same files, to be moved away.

    So the program's own folder stays complete until the run's success is committed, and a worker
    that dies before leaves nothing for the next one to do again.
    """
    copy = folder.with_name(f".{folder.name}.linked")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy, copy_function=link_or_copy)
    return copy


# --- checks that need more than one option --------------------------------------------------------


def one_generator(options: Mapping[str, Any]) -> dict[str, str]:
    """A generator to measure is named once."""
    if bool(options["generator"]) == bool(options["run"]):
        return {"generator": "choose a generator or the run that trained it, one of the two"}
    return {}


def two_classifiers(options: Mapping[str, Any]) -> dict[str, str]:
    """A classifier is compared with another one."""
    if options["bundle"] == options["reference"]:
        return {"reference": "choose another classifier than the one to compare with it"}
    return {}


def some_images(options: Mapping[str, Any]) -> dict[str, str]:
    """An import has a name and something to take in."""
    faults = {}
    if not options["name"].strip():
        faults["name"] = "give the data set a name"
    if not (options["folder"] or options[UPLOAD] or options["corrections"]):
        faults["folder"] = "name a folder, upload an archive, or add the reviewed images"
    # Its folder is removed in the end: no other one may be meant.
    if options[UPLOAD] and not re.fullmatch(r"[0-9a-f-]{36}", options[UPLOAD]):
        faults[UPLOAD] = "this is not the name of an upload: upload the archive again"
    return faults


# --- at the end -----------------------------------------------------------------------------------


def tidy(settings: Settings, run: Run, folder: Path) -> None:
    """Remove what a succeeded run has no further use for: its images are a data version now."""
    shutil.rmtree(folder / SET, ignore_errors=True)
    clear_import(settings, run, folder)


def clear_import(settings: Settings, run: Run, folder: Path) -> None:
    """Remove the images of an import that is over, however it ended.

    They are patients', whether uploaded, unpacked or reviewed here. If the run goes on it gathers
    them anew, without those whose screening was deleted meanwhile.
    """
    if UPLOAD not in run.options:
        return
    # First, as it says that the images are there.
    with suppress(OSError):
        (folder / DONE).unlink()
    for name in _IMAGES_OF_IMPORT:
        shutil.rmtree(folder / name, ignore_errors=True)
    if name := run.options[UPLOAD]:
        shutil.rmtree(upload_folder(settings, name), ignore_errors=True)
