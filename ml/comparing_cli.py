"""The commands that compare classifiers: one with another."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml.bundle import PRETRAINED
from ml.cli_common import DataFolder
from ml.figures import interval
from ml.predictor import Predictor

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
    from ml.gates import COMPARISON, compare_classifiers, write_comparison

    threads = os.cpu_count() or 1
    candidate, other = (Predictor.load(each, threads=threads) for each in (bundle, reference))
    comparison = compare_classifiers(candidate, other, data)
    _print_comparison(comparison)
    if out:
        write_comparison(out, comparison)
        print(f"wrote {out / COMPARISON}")


def _print_comparison(comparison: Mapping[str, Any]) -> None:
    from ml.gates import NAMES

    sides = [comparison[side] for side in ("candidate", "reference")]
    table = Table("figure", *(side["version"] for side in sides), "difference", "95 % interval")
    for key, name in NAMES.items():
        figures = [" (".join(interval(side["figures"][key])) + ")" for side in sides]
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
