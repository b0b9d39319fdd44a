"""A new data set made of an older one and images that are added to it, frozen at the end.

Everything is done in a folder beside the result, which gets its name when it is whole. What was
done there is written down step by step: the same call resumes after an interruption.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ml.data.importers.import_images import (
    SHORT_SIDE,
    Report,
    import_images,
    left_out_name,
    write_left_out,
)
from ml.data.importers.layouts import LAYOUTS, source_slug
from ml.data.importers.merge import DataSet, add_data_set, copy_whole
from ml.data.importers.prepare_state import PrepareJournal, PrepareProgress, as_reports
from ml.data.importers.records import Skipped, SourceOptions, files_below
from ml.data.importers.unpack import unpack
from ml.data.manifest import MANIFEST, read_manifest_rows
from ml.data.summary import DataSetSummary
from ml.data.versioning import SUMMARY, freeze, read_version
from ml.errors import DataError
from ml.files import write_whole
from ml.imaging.image_files import is_system_file
from ml.json_model import JsonObject

SET = "set"
DATA_SET = "data-set"
KINDS = (DATA_SET, *LAYOUTS)
FOLDERS = "folders"
RECEIPT = "prepared.json"
LEFT_OUT = "left-out.csv"
LABELS_FILE = "labels.csv"
WORK = ".prepare-part"


@dataclass(frozen=True, slots=True)
class Source:
    """Images to add.

    Attributes:
        path: a folder, or a ZIP or TAR archive of one.
        kind: how they are laid out, one of `KINDS`. Whatever has a manifest is a data set.
    """

    path: Path
    kind: str = FOLDERS


@dataclass(frozen=True, slots=True)
class PrepareRequest:
    """The data set that is wanted.

    Attributes:
        base: the data set that it is based on.
        sources: what is added, in this order.
        name: what people call it.
        source: name of the source of images whose layout knows none; made of the name or the file's
            otherwise.
        patient_pattern: as in `SourceOptions`.
        labels: as in `SourceOptions`; `labels.csv` beside the images otherwise.
        short_side: images of a layout are reduced to this, in pixels; 0 keeps their size.
        keep_duplicates: as in `import_images`.
    """

    base: Path | None = None
    sources: Sequence[Source] = ()
    name: str = ""
    source: str = ""
    patient_pattern: str = ""
    labels: Path | None = None
    short_side: int = SHORT_SIDE
    keep_duplicates: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """The result of preparing a data set.

    Attributes:
        folder: the frozen data set.
        summary: of its freeze.
        reports: of the base and of each source, by its name.
    """

    folder: Path
    summary: DataSetSummary
    reports: dict[str, Report]


def prepare(
    wanted: PrepareRequest, out: Path, should_stop: Callable[[], bool] = lambda: False
) -> Prepared:
    """Make a data set in `out/set`, or find that it was made already.

    Progress is written to `out/metrics.jsonl`, rows of `step` and `of`; what was not taken, and
    why, to `out/left-out.csv`.

    Args:
        wanted: the data set.
        out: the folder; made where it is missing.
        should_stop: asked after each image.

    Raises:
        DataError: names every fault of what is to be added, or of the base; nothing is left of it.
        CheckpointError: it was stopped; the same call resumes.
    """
    inputs = _checked(wanted)
    finished, receipt, work = out / SET, out / RECEIPT, out / WORK
    if finished.exists():
        if not (receipt.exists() and json.loads(receipt.read_text())["inputs"] == inputs):
            raise DataError(f"{finished} is another data set. Give another --out.")
        # An interruption at the very end leaves what was unpacked.
        shutil.rmtree(work, ignore_errors=True)
        reports = json.loads(receipt.read_text())["reports"]
        return Prepared(finished, read_version(finished), as_reports(reports))
    out.mkdir(parents=True, exist_ok=True)
    try:
        journal = PrepareJournal.open(work, inputs)
        progress = PrepareProgress(out, should_stop)
        reports = _make(wanted, work, journal, progress)
        summary = freeze(work / SET, progress)
    except (DataError, OSError):
        shutil.rmtree(work, ignore_errors=True)
        raise
    write_left_out(out / LEFT_OUT, [one for each in reports.values() for one in each.left_out])
    write_whole(receipt, (work / PrepareJournal.NAME).read_bytes())
    (work / SET).rename(finished)
    shutil.rmtree(work)
    return Prepared(finished, summary, reports)


def _checked(wanted: PrepareRequest) -> JsonObject:
    """What the data set is made of, as it is written down."""
    unknown = [one.kind for one in wanted.sources if one.kind not in KINDS]
    paths = [*([wanted.base] if wanted.base else []), *(one.path for one in wanted.sources)]
    faults = [f"Unknown kind {kind!r}. Expected one of {', '.join(KINDS)}." for kind in unknown]
    faults += [f"There is no file or folder {path}." for path in paths if not path.exists()]
    if not paths:
        faults.append("There are no images. Give a base, or images to add.")
    if faults:
        raise DataError("\n".join(faults))
    inputs: JsonObject = json.loads(json.dumps(asdict(wanted), default=str))
    return inputs


def _make(
    wanted: PrepareRequest, work: Path, journal: PrepareJournal, progress: PrepareProgress
) -> dict[str, Report]:
    """Everything but the freeze."""
    to = work / SET
    names = _names(wanted.sources)
    missing = [name for name in names if name not in journal.reports]
    # Faults of all sources are reported together, before the first image is taken.
    opened = _open_all(wanted, {name: names[name] for name in missing}, work, progress)
    if wanted.base and _BASE not in journal.reports:
        progress.expect(len(read_manifest_rows(wanted.base)[1]))
        frozen = (wanted.base / SUMMARY).exists()
        journal.add(_BASE, copy_whole(wanted.base, to, link=frozen, on_image=progress))
    for name, source in opened.items():
        try:
            journal.add(name, _add(source, to, wanted, progress))
        except DataError as problem:
            shown = str(problem).replace(f"{_place_of(work, name)}", names[name].path.name)
            raise DataError(shown) from problem
    total = len(read_manifest_rows(to)[1])
    progress.of = progress.step + 2 * total
    return journal.reports


_BASE = "base"


def _names(sources: Sequence[Source]) -> dict[str, Source]:
    """Sources by what they are called in reports."""
    return {f"{number}: {one.path.name}": one for number, one in enumerate(sources, start=1)}


@dataclass(frozen=True, slots=True)
class _Opened:
    """A source whose files lie in a folder.

    Attributes:
        data: where it is a data set.
        owned: it was unpacked here: nobody else needs its files.
        options: for its layout.
    """

    root: Path
    kind: str
    data: DataSet | None
    owned: bool
    options: SourceOptions


def _open_all(
    wanted: PrepareRequest, sources: Mapping[str, Source], work: Path, progress: PrepareProgress
) -> dict[str, _Opened]:
    opened, faults = {}, []
    for name, source in sources.items():
        try:
            opened[name] = _open(wanted, source, work, name, progress)
        except DataError as problem:
            # Where it was unpacked means nothing to the user.
            faults.append(str(problem).replace(f"{_place_of(work, name)}", source.path.name))
    if faults:
        raise DataError("\n".join(faults))
    return opened


def _place_of(work: Path, name: str) -> Path:
    """Where the archive of a source is unpacked."""
    return work / f"unpacked-{name.partition(':')[0]}"


def _open(
    wanted: PrepareRequest, source: Source, work: Path, name: str, progress: PrepareProgress
) -> _Opened:
    owned = source.path.is_file()
    top = _unpacked(source.path, _place_of(work, name), progress) if owned else source.path
    folders = _down_to_images(top)
    root = next((folder for folder in folders if (folder / MANIFEST).is_file()), None)
    if root:
        progress.expect(len(read_manifest_rows(root)[1]))
        return _Opened(root, DATA_SET, DataSet.read(root, progress), owned, SourceOptions())
    if source.kind == DATA_SET:
        raise DataError(
            f"{source.path.name} has no {MANIFEST}. Give the layout of its images: --layout "
            f"{', '.join(LAYOUTS)}."
        )
    labels = wanted.labels
    if not labels:
        # The files that it names lie beside it.
        folders = [each for each in folders if (each / LABELS_FILE).is_file()] or folders
        labels = folders[0] / LABELS_FILE if (folders[0] / LABELS_FILE).is_file() else None
    options = SourceOptions(
        wanted.source or source_slug(wanted.name) or source_slug(source.path.stem) or "images",
        wanted.patient_pattern,
        labels,
        work / SET / ".patient-salt",
    )
    root = _root_of(source, folders, options)
    progress.expect(len(files_below(root)))
    return _Opened(root, source.kind, None, owned, options)


def _unpacked(archive: Path, to: Path, progress: PrepareProgress) -> Path:
    """Unpack an archive, or find that an earlier attempt did."""
    if not to.exists():
        part = to.with_name(f"{to.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        unpack(archive, part, on_chunk=progress.stop_if_asked)
        part.rename(to)
    return to


def _down_to_images(top: Path) -> list[Path]:
    """A folder, and those in it as long as there is nothing else: archives often begin so."""
    folders = [top]
    while True:
        inner = [
            path
            for path in folders[-1].iterdir()
            if not is_system_file(path.relative_to(folders[-1]))
            and not is_system_file(Path(path.name, "any"))
        ]
        if len(inner) != 1 or not inner[0].is_dir():
            return folders
        folders.append(inner[0])


def _root_of(source: Source, folders: Sequence[Path], options: SourceOptions) -> Path:
    """The folder that the layout finds itself in.

    Raises:
        DataError: it does so in none; what it says of the outermost.
    """
    problems = []
    for folder in folders:
        try:
            next(LAYOUTS[source.kind](folder, options), None)
        except DataError as problem:
            problems.append(problem)
        else:
            return folder
    raise problems[0]


def _add(source: _Opened, to: Path, wanted: PrepareRequest, progress: PrepareProgress) -> Report:
    if source.data is None:
        report = import_images(
            source.kind,
            source.root,
            to,
            source.options,
            short_side=wanted.short_side,
            keep_duplicates=wanted.keep_duplicates,
            on_image=progress,
        )
        # It names paths of this machine; the data set may travel.
        (to / left_out_name(source.kind)).unlink()
    elif (to / MANIFEST).exists():
        report = add_data_set(
            source.data, to, keep_duplicates=wanted.keep_duplicates, on_image=progress
        )
    else:
        report = copy_whole(source.root, to, link=source.owned, on_image=progress)
    left_out = [_from_within(source.root, one) for one in report.left_out]
    return Report(report.added, report.total, left_out, report.changed)


def _from_within(root: Path, one: Skipped) -> Skipped:
    inner = one.path.relative_to(root) if one.path.is_relative_to(root) else one.path
    return Skipped(inner, one.reason, one.detail)
