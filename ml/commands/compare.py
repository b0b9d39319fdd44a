"""The commands that compare classifiers: one with another, and ways to train one."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml.classifier.bundle import PRETRAINED
from ml.classifier.predictor import Predictor
from ml.commands.classifier import print_epoch
from ml.commands.common import DataFolder, DeviceName, device_named, until_stopped
from ml.commands.options_to_flags import with_flags
from ml.data.manifest import read_manifest, read_synthetic_manifest
from ml.options import ArmsOptions
from ml.reporting.ablation_report import HTML
from ml.reporting.format import interval
from ml.reporting.page import with_interval

MOST_FILMS_SHOWN = 20


def compare_classifiers_command(
    data: DataFolder,
    bundle: Annotated[Path, typer.Option(help="The bundle of the classifier that is in question.")],
    reference: Annotated[
        Path, typer.Option(help="The bundle to compare it with; by default the released one.")
    ] = PRETRAINED,
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.json.")] = None,
) -> None:
    """Compare two classifiers on the same test films, and say whether the first may go in service.

    It may unless it is worse beyond the 95 % interval of the difference, or does not reach the
    figures that its own card gives it.
    """
    from ml.evaluation.compare import COMPARISON, compare_classifiers, write_comparison

    threads = os.cpu_count() or 1
    candidate, other = (Predictor.load(each, threads=threads) for each in (bundle, reference))
    comparison = compare_classifiers(candidate, other, data)
    _print_comparison(comparison)
    if out:
        write_comparison(out, comparison)
        print(f"wrote {out / COMPARISON}")


@with_flags(ArmsOptions, panel="Options of every training")
def compare_arms_command(
    data: DataFolder,
    synthetic: Annotated[
        list[Path], typer.Option(help="A folder of xray synthesize; may be repeated.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the results; the same one resumes.")],
    device: DeviceName = "auto",
    **given: Any,
) -> None:
    """Train with synthetic films, with changed copies in their place and without, and compare.

    Every arm is trained with several seeds and answers the same test films. Interrupted, the same
    command goes on with the training in hand. SIGTERM and Ctrl-C end it after the batch in hand;
    the exit status is then 143 or 130.
    """
    from ml.evaluation.ablation import JSON, compare_arms

    options, place = ArmsOptions(**given), device_named(device)
    records = read_manifest(data)
    made = [film for folder in synthetic for film in read_synthetic_manifest(folder)]
    with until_stopped() as should_stop:
        result = compare_arms(
            records,
            made,
            out,
            options,
            device=place,
            on_tick=print_epoch,
            should_stop=should_stop,
        )
    if result:
        _print_arms(result)
        print(f"wrote {out / JSON} and {out / HTML}")


def _print_arms(result: Mapping[str, Any]) -> None:
    console = Console()
    for question in result["questions"]:
        where = question["left_out"] or "the test films"
        table = Table("learned from", "accuracy", "macro AUROC", "difference", title=f"on {where}")
        for arm, own in question["arms"].items():
            less = own["differences"]
            moved = with_interval(less["macro_auroc"]) if less else ""
            figures = [with_interval(own[key]) for key in ("accuracy", "macro_auroc")]
            table.add_row(result["arms"][arm]["name"], *figures, moved)
        console.print(table)
    for sentence in result["sentences"]:
        console.print(sentence)


def _print_comparison(comparison: Mapping[str, Any]) -> None:
    from ml.evaluation.compare import NAMES

    sides = [comparison[side] for side in ("candidate", "reference")]
    table = Table("figure", *(side["version"] for side in sides), "difference", "95 % interval")
    for key, name in NAMES.items():
        figures = [with_interval(side["figures"][key]) for side in sides]
        table.add_row(name, *figures, *interval(comparison["differences"][key]))
    console = Console()
    console.print(table)
    console.print(f"{comparison['films']} test films of {comparison['patients']} patients")
    changed = comparison["changed"]
    if changed:
        films = Table("film", "shows", *(side["version"] for side in sides))
        for film in changed[:MOST_FILMS_SHOWN]:
            answers = [_answer(film[side]) for side in ("candidate", "reference")]
            films.add_row(film["image"], film["label"], *answers)
        console.print(films)
    more = max(0, len(changed) - MOST_FILMS_SHOWN)
    console.print(
        f"answered differently: {len(changed)} films" + (f", {more} not shown" if more else "")
    )
    if comparison["card_reproduced"] is None:
        console.print("these films are not those of the card, so its figures are not checked")
    for fault in comparison["faults"]:
        console.print(f"fault: {fault}")
    console.print("the gates open" if comparison["passed"] else "the gates stay shut")


def _answer(side: Mapping[str, Any]) -> str:
    told = f"{side['label']} {side['probability']:.2f}"
    return told if side["decision"] == side["label"] else f"{told}, {side['decision']}"
