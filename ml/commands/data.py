"""`xray data`: import, build, freeze and summarise data sets."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml.commands.common import until_stopped
from ml.commands.options_to_flags import with_flags
from ml.data.manifest import ImageRecord, in_split, labels_of, read_manifest, real_images
from ml.data.splits import Split
from ml.errors import XrayError, counted
from ml.files import shown_path
from ml.labels import ordered_labels
from ml.option_fields import option_values
from ml.options.data import DataPreparationOptions

if TYPE_CHECKING:
    from ml.data.importers.import_images import Report
    from ml.data.importers.prepare import Source
    from ml.data.summary import DataSetSummary
data_app = typer.Typer(no_args_is_help=True, help="Import, build, freeze and summarise data sets.")
SHOWN = 20


@data_app.command("import")
def data_import(
    layout: Annotated[
        str,
        typer.Argument(
            help="Layout: covid-chestxray-dataset, radiography, kermany, nih, folders or dicom."
        ),
    ],
    src: Annotated[Path, typer.Argument(help="Folder of the downloaded files.")],
    # With the names that the options had in 0.1.0.
    out: Annotated[
        Path,
        typer.Option("--out", "--to", help="The data set's folder; images are added to it."),
    ],
    label_file: Annotated[
        Path | None,
        typer.Option(
            "--label-file",
            "--labels",
            help="dicom: CSV with file or SOPInstanceUID, label and optionally patient.",
        ),
    ] = None,
    patient_pattern: Annotated[
        str,
        typer.Option(help="folders: regular expression whose only group is the patient in a path."),
    ] = "",
    source: Annotated[
        str, typer.Option(help="folders, dicom: name of the source; default: the folder's name.")
    ] = "",
    short_side: Annotated[
        int, typer.Option(min=0, help="Scale down to this short side, in pixels; 0 keeps the size.")
    ] = 256,
    keep_duplicates: Annotated[
        bool,
        typer.Option("--keep-duplicates", help="Also import near-duplicates with the same label."),
    ] = False,
) -> None:
    """Import images into a data set.

    The manifest is replaced in the last step. The same command resumes an interrupted import.
    """
    from ml.data.importers.import_images import import_images
    from ml.data.importers.records import UNREADABLE, SourceOptions

    options = SourceOptions(source, patient_pattern, label_file, out / ".patient-salt")
    report = import_images(
        layout, src, out, options, short_side=short_side, keep_duplicates=keep_duplicates
    )
    unreadable = [one for one in report.left_out if one.reason == UNREADABLE]
    for one in unreadable[:SHOWN]:
        print(f"unreadable: {shown_path(one.path)}: {one.detail}")
    for reason, count in Counter(one.reason for one in report.left_out).most_common():
        print(f"left out, {reason}: {count}")
    if report.left_out:
        print(f"listed in {out / f'left-out-{layout}.csv'}")
    print(f"added: {_counted(report.added)}; {out} has {report.total} images")


@data_app.command("prepare")
@with_flags(DataPreparationOptions, panel="Options of the import")
def data_prepare(
    out: Annotated[Path, typer.Option(help="Folder of the result; the data set is OUT/set.")],
    base: Annotated[
        Path | None, typer.Option(help="Data set to start from; its images are kept unchanged.")
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of images to add: a data set, or files in the given layout. Repeatable."
        ),
    ] = None,
    archive: Annotated[
        list[Path] | None,
        typer.Option(help="ZIP, TAR or TAR.GZ archive of images to add. Repeatable."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--layout",
            help="Layout of images without a manifest, as in xray data import: one for all, or one "
            "for each archive. Default: folders, one for each class.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--label-file", help="dicom: CSV of labels; default: labels.csv in the folder."
        ),
    ] = None,
    **given: Any,
) -> None:
    """Create a frozen data set from an existing one and new images.

    Images of a data set with a manifest are added unchanged, others as in xray data import. The
    same command resumes if interrupted; OUT/set appears only when it is complete.
    """
    from ml.data.importers.prepare import LEFT_OUT, PrepareRequest, prepare

    wanted = PrepareRequest(
        base=base,
        sources=_sources(add or [], archive or [], kind or []),
        labels=labels,
        **option_values(DataPreparationOptions(**given)),  # type: ignore[arg-type]
    )
    with until_stopped() as should_stop:
        try:
            prepared = prepare(wanted, out, should_stop)
        except OSError as problem:
            raise XrayError(
                f"Cannot write to {out}: {problem.strerror or problem}. Fix the problem and run "
                "the same command again."
            ) from problem
        for called, report in prepared.reports.items():
            _print_report(called, report)
        if any(report.left_out for report in prepared.reports.values()):
            print(f"images that were left out: {out / LEFT_OUT}")
        _print_version(prepared.summary)
        print(f"data set: {prepared.folder}")


def _sources(add: list[Path], archives: list[Path], kinds: list[str]) -> "list[Source]":
    from ml.data.importers.prepare import FOLDERS, Source

    if len(kinds) < 2:
        return [Source(path, *kinds) for path in [*add, *archives]]
    if len(kinds) != len(archives):
        raise XrayError("Give one --layout for all images, or one for each --archive.")
    paired = zip(archives, kinds, strict=True)
    return [*(Source(path, FOLDERS) for path in add), *(Source(*pair) for pair in paired)]


def _print_report(called: str, report: "Report") -> None:
    changed = (
        f"; {counted(report.changed, 'image')} changed label or patient" if report.changed else ""
    )
    print(f"{called}: {_counted(report.added)}{changed}")
    for reason, count in Counter(one.reason for one in report.left_out).most_common():
        print(f"  left out, {reason}: {count}")


def _counted(added: Counter[str]) -> str:
    """How many images of each class, in words: "2 covid, 3 normal"."""
    labels = ordered_labels(added)
    return ", ".join(f"{added[label]} {label}" for label in labels) or "no image"


@data_app.command("demonstration")
def data_demonstration(
    out: Annotated[Path, typer.Option(help="New folder for the data set.")],
    generator: Annotated[
        Path | None,
        typer.Option(help="Folder of an exported generator; default: the released one."),
    ] = None,
) -> None:
    """Create the demonstration set again: synthetic images that stand in for patients.

    Metrics on them say nothing about patients.
    """
    from ml.data.demonstration import make_demonstration
    from ml.gan.onnx_generator import PRETRAINED, GeneratorGraph

    _print_version(make_demonstration(out, GeneratorGraph.load(generator or PRETRAINED)))


@data_app.command("freeze")
def data_freeze(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only verify that the data set is unchanged since it was frozen."
        ),
    ] = False,
) -> None:
    """Make a data set immutable: hash it and write summary.json and contact-sheet.jpg."""
    from ml.data.versioning import CONTACT_SHEET, SUMMARY, freeze, verify_version

    if check:
        print(f"{folder} is unchanged: SHA-256 {verify_version(folder).sha256}")
        return
    _print_version(freeze(folder))
    print(f"wrote {folder / SUMMARY} and {folder / CONTACT_SHEET}")


def _print_version(summary: "DataSetSummary") -> None:
    labels = ", ".join(f"{count} {label}" for label, count in summary.by_label.items())
    print(f"frozen: {summary.images} images ({labels}) of {summary.patients} patients")
    print(f"SHA-256 {summary.sha256}")
    print(
        f"near-duplicates: {summary.duplicates} images; in different splits: "
        f"{summary.leaks} pairs; with conflicting labels: {summary.conflicts} groups"
    )
    for warning in summary.warnings:
        print(f"warning: {warning}")


@data_app.command("summary")
def data_summary(
    folder: Annotated[Path | None, typer.Argument(help="The data set's folder.")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", envvar="XRAY_DATA", help="The data set's folder, as an option."),
    ] = None,
    duplicates: Annotated[
        bool, typer.Option(help="Search for near-duplicates; reads every image.")
    ] = True,
) -> None:
    """Count the images of a data set, and report near-duplicates, leaks and small classes."""
    from ml.data.summary import age_band, count_by, warnings_of

    root = folder or data
    if root is None:
        raise XrayError("No data set is given. Run xray data summary FOLDER, or set XRAY_DATA.")
    records = read_manifest(root)
    labels = labels_of(records)
    features = {
        "split": lambda image: image.split.value,
        "view": lambda image: image.view,
        "sex": lambda image: image.sex,
        "age": age_band,
    }
    for name, feature in features.items():
        table = Table(name, *labels)
        for value, counts in count_by(records, feature).items():
            table.add_row(value, *(str(counts[label]) for label in labels))
        Console().print(table)
    made = len(records) - len(real_images(records))
    if made:
        print(f"synthetic images: {made}, in the training split only")
    for warning in warnings_of(real_images(records) or records):
        print(f"warning: {warning}")
    if duplicates:
        _print_duplicates(root, records)
    Console().print(_source_table(records))


def _source_table(records: Sequence[ImageRecord]) -> Table:
    classes = labels_of(records)
    table = Table("source", *classes, "patients", *Split)
    for source in [*sorted({record.source for record in records}), None]:
        own = [record for record in records if source in (None, record.source)]
        labels = Counter(record.label for record in own)
        table.add_row(
            source or "all",
            *(str(labels[label]) for label in classes),
            str(len({record.patient for record in own})),
            *(str(len(in_split(own, part))) for part in Split),
            style="" if source else "bold",
        )
    return table


def _print_duplicates(root: Path, records: Sequence[ImageRecord]) -> None:
    from ml.data.near_duplicates import hash_records
    from ml.data.summary import find_duplicates

    found = find_duplicates(records, hash_records(records))
    inner = sum(map(len, found.groups))
    print(f"near-duplicates: {inner} images in {len(found.groups)} groups")
    print(f"groups with conflicting labels: {len(found.conflicts)}")
    print(f"near-duplicates in different splits: {found.leak_count} pairs")
    for one, other in found.leaks[:SHOWN]:
        names = [f"{image.path.relative_to(root)} ({image.split})" for image in (one, other)]
        print(f"  {' and '.join(names)}")
