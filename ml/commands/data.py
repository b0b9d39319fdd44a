"""`xray data`: import public sets, make new data sets of old ones, freeze, tell what is in one."""

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
from ml.errors import XrayError
from ml.labels import ordered_labels
from ml.option_fields import option_values
from ml.options.data import DataPreparationOptions

if TYPE_CHECKING:
    from ml.data.importers.import_images import Report
    from ml.data.importers.prepare import Source
    from ml.data.summary import DataSetSummary
data_app = typer.Typer(no_args_is_help=True, help="Data sets.")
SHOWN = 20


@data_app.command("import")
def data_import(
    kind: Annotated[
        str,
        typer.Argument(
            help="covid-chestxray-dataset, radiography, kermany, nih, folders or dicom."
        ),
    ],
    src: Annotated[Path, typer.Argument(help="The folder as it was downloaded.")],
    to: Annotated[Path, typer.Option(help="The data set's folder; images are added to it.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="dicom: CSV with file or SOPInstanceUID, label and perhaps patient."),
    ] = None,
    patient_pattern: Annotated[
        str, typer.Option(help="folders: expression whose one group finds the patient in a path.")
    ] = "",
    source: Annotated[
        str, typer.Option(help="folders, dicom: the source's name, by default the folder's.")
    ] = "",
    short_side: Annotated[
        int, typer.Option(min=0, help="Reduce images to this, in pixels; 0 keeps their size.")
    ] = 256,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Take near-duplicates of one label too.")
    ] = False,
) -> None:
    """Take the images of a public set into a data set.

    Interrupted, the same command goes on; the manifest changes at the very end.
    """
    from ml.data.importers.import_images import import_images
    from ml.data.importers.records import UNREADABLE, SourceOptions

    options = SourceOptions(source, patient_pattern, labels, to / ".patient-salt")
    report = import_images(
        kind, src, to, options, short_side=short_side, keep_duplicates=keep_duplicates
    )
    unreadable = [one for one in report.left_out if one.reason == UNREADABLE]
    for one in unreadable[:SHOWN]:
        print(f"unreadable: {one.path}: {one.detail}")
    for reason, count in Counter(one.reason for one in report.left_out).most_common():
        print(f"left out, {reason}: {count}")
    if report.left_out:
        print(f"each of them: {to / f'left-out-{kind}.csv'}")
    print(f"added: {_counted(report.added)}; {report.total} images in {to} now")


@data_app.command("prepare")
@with_flags(DataPreparationOptions, panel="Options of the import")
def data_prepare(
    out: Annotated[Path, typer.Option(help="Where to: the data set is OUT/set.")],
    base: Annotated[
        Path | None, typer.Option(help="A data set whose images come first, as they are.")
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of images to add: a data set, or as --kind says. Repeatable."),
    ] = None,
    archive: Annotated[
        list[Path] | None,
        typer.Option(help="The same as a ZIP, TAR or TAR.GZ archive. Repeatable."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="How images without a manifest are laid out, as in xray data import; one for all, "
            "or one for each archive. Default: folders, one for each class."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="dicom: CSV of labels; default: labels.csv in the folder.")
    ] = None,
    **given: Any,
) -> None:
    """Make a new, frozen data set of an older one and images that are added to it.

    Images of a data set with a manifest are taken as they are, others as xray data import does.
    Interrupted, the same command goes on; nothing stands in OUT/set before all of it is there.
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
                f"cannot make {out}: {problem.strerror or problem}. Mend that and give the same "
                "command"
            ) from problem
        for called, report in prepared.reports.items():
            _print_report(called, report)
        if any(report.left_out for report in prepared.reports.values()):
            print(f"each image that was not taken: {out / LEFT_OUT}")
        _print_version(prepared.summary)
        print(f"the data set is {prepared.folder}")


def _sources(add: list[Path], archives: list[Path], kinds: list[str]) -> "list[Source]":
    from ml.data.importers.prepare import FOLDERS, Source

    if len(kinds) < 2:
        return [Source(path, *kinds) for path in [*add, *archives]]
    if len(kinds) != len(archives):
        raise XrayError("give one --kind for all images, or one for each --archive")
    paired = zip(archives, kinds, strict=True)
    return [*(Source(path, FOLDERS) for path in add), *(Source(*pair) for pair in paired)]


def _print_report(called: str, report: "Report") -> None:
    changed = f"; {report.changed} image(s) have another label or patient" if report.changed else ""
    print(f"{called}: {_counted(report.added)}{changed}")
    for reason, count in Counter(one.reason for one in report.left_out).most_common():
        print(f"  left out, {reason}: {count}")


def _counted(added: Counter[str]) -> str:
    """How many images of each class, in words: "2 covid, 3 normal"."""
    labels = ordered_labels(added)
    return ", ".join(f"{added[label]} {label}" for label in labels) or "no image"


@data_app.command("demonstration")
def data_demonstration(
    to: Annotated[Path, typer.Option(help="The data set's folder, a new one.")],
    generator: Annotated[
        Path | None, typer.Option(help="A released generator's folder; default: ours.")
    ] = None,
) -> None:
    """Make the demonstration set again: synthetic images that stand in for patients'.

    What is measured on them says nothing about patients.
    """
    from ml.data.demonstration import make_demonstration
    from ml.gan.onnx_generator import PRETRAINED, GeneratorGraph

    _print_version(make_demonstration(to, GeneratorGraph.load(generator or PRETRAINED)))


@data_app.command("freeze")
def data_freeze(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: is it still what was frozen?")
    ] = False,
) -> None:
    """Hash the content of a data set and write what is in it: summary.json, contact-sheet.jpg."""
    from ml.data.versioning import CONTACT_SHEET, SUMMARY, freeze, verify_version

    if check:
        print(f"{folder} is what was frozen: SHA-256 {verify_version(folder).sha256}")
        return
    _print_version(freeze(folder))
    print(f"wrote {folder / SUMMARY} and {folder / CONTACT_SHEET}")


def _print_version(summary: "DataSetSummary") -> None:
    labels = ", ".join(f"{count} {label}" for label, count in summary.by_label.items())
    print(f"frozen: {summary.images} images ({labels}) of {summary.patients} patients")
    print(f"SHA-256 {summary.sha256}")
    print(
        f"near-duplicates: {summary.duplicates} images; on two sides of the split: "
        f"{summary.leaks} pairs; with labels that disagree: {summary.conflicts} groups"
    )
    for warning in summary.warnings:
        print(f"warning: {warning}")


@data_app.command("summary")
def data_summary(
    folder: Annotated[Path | None, typer.Argument(help="The data set's folder.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", envvar="XRAY_DATA", help="The same, as an option.")
    ] = None,
    duplicates: Annotated[
        bool, typer.Option(help="Look for near-duplicates, which reads every image.")
    ] = True,
) -> None:
    """Count the images of a data set; tell of near-duplicates, leaks between splits, thin spots."""
    from ml.data.summary import age_band, count_by, warnings_of

    root = folder or data
    if root is None:
        raise XrayError("no data set named: xray data summary FOLDER, or XRAY_DATA=FOLDER")
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
        print(f"synthetic images: {made}, which train and are in no other split")
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
    print(f"groups whose labels disagree: {len(found.conflicts)}")
    print(f"near-duplicates on two sides of the split: {found.leak_count} pairs")
    for one, other in found.leaks[:SHOWN]:
        names = [f"{image.path.relative_to(root)} ({image.split})" for image in (one, other)]
        print(f"  {' and '.join(names)}")
